// SPDX-License-Identifier: Apache-2.0
// A module with parameters of several element types trains as one of one type does.
#include "libdist/libtorch/lanes.h"

#include <dist/libtorch.h>

#include <filesystem>
#include <string>

#include "tests/libdist/libtorch/net.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using libtorch::attach;
using test::expect;
using test::expect_ok;
using test::small_buckets;

constexpr int kSteps = 6;
constexpr int64_t kBatch = 4;

// f32 and f64 by turns, so that gradients of both arrive mixed.
struct MixedNet : torch::nn::Module {
  MixedNet()
      : wide(register_module("wide", torch::nn::Linear(16, 8))),
        left(register_module("left", torch::nn::Linear(8, 8))),
        right(register_module("right", torch::nn::Linear(16, 8))),
        head(register_module("head", torch::nn::Linear(8, 3))),
        scale(register_parameter("scale", torch::ones({3}, torch::kFloat64))) {
    left->to(torch::kFloat64);
    right->to(torch::kFloat64);
    const torch::NoGradGuard no_grad;
    double at = 0;
    for (auto& parameter : parameters()) {
      parameter.copy_(torch::cos(torch::arange(parameter.numel()) * 0.37 + (at += 1))
                          .reshape(parameter.sizes()) *
                      0.3);
    }
  }

  torch::Tensor loss(int64_t first, int64_t count, bool use_left = true, bool use_right = true) {
    const auto x = test::images(first, count).flatten(1);
    auto sum = torch::zeros({count, 8}, torch::kFloat64);
    if (use_left) sum = sum + left->forward(torch::tanh(wide->forward(x)).to(torch::kFloat64));
    if (use_right) sum = sum + torch::tanh(right->forward(x.to(torch::kFloat64)));
    const auto out = head->forward(sum.to(torch::kFloat32)).to(torch::kFloat64) * scale;
    return torch::nll_loss(torch::log_softmax(out, 1), test::classes(first, count));
  }

  torch::nn::Linear wide, left, right, head;
  torch::Tensor scale;
};

std::vector<double> train_alone(int ranks) {
  MixedNet net;
  torch::optim::SGD optimizer(net.parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  for (int step = 0; step < kSteps; ++step) {
    optimizer.zero_grad();
    net.loss(step * ranks * kBatch, ranks * kBatch).backward();
    optimizer.step();
  }
  return test::values(net);
}

TEST_CASE("f32 and f64 in one module: N ranks of batch 4 equal one process of batch 4N") {
  torch::set_num_threads(1);
  for (const std::string algorithm : {"auto", "ring"}) {
    for (const bool library_updates : {false, true}) {
      INFO(algorithm << ", library updates: " << library_updates);
      const auto expected = train_alone(3);
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", 3,
          [&](World& world) {
            MixedNet net;
            if (world.rank() != 0) torch::nn::init::zeros_(net.left->weight);
            torch::optim::SGD optimizer(net.parameters(),
                                        torch::optim::SGDOptions(0.1).momentum(0.9));
            libtorch::AttachOptions options;
            if (library_updates) options.update = Momentum{.learning_rate = 0.1};
            auto parallel = attach(net, world, options).value();
            for (int step = 0; step < kSteps; ++step) {
              if (!library_updates) optimizer.zero_grad();
              net.loss((step * 3 + world.rank()) * kBatch, kBatch).backward();
              const auto report = parallel.step(optimizer).value();
              expect(report.step == static_cast<std::uint64_t>(step), "the report's step");
            }
            expect(net.left->weight.scalar_type() == torch::kFloat64, "types stay");
            expect(net.wide->weight.scalar_type() == torch::kFloat32, "types stay");
            expect(parallel.repairs() == 0, "nothing was to be repaired");
            expect(test::distance(expected, test::values(net)) < 1e-5, "differs from one process");
            expect(test::equal_everywhere(world, test::values(net)), "replicas differ");
            expect_ok(parallel.end());
          },
          small_buckets(algorithm)));
    }
  }
}

// Their gradients become ready in another order on every rank, of either type first.
TEST_CASE("several types: ranks that take different branches start exchanges in one order") {
  torch::set_num_threads(1);
  for (const std::string algorithm : {"auto", "ring"}) {
    INFO(algorithm);
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 3,
        [](World& world) {
          MixedNet net;
          auto parallel = attach(net, world, {.update = Adam{.learning_rate = 0.01}}).value();
          for (int step = 0; step < 2 * kSteps; ++step) {
            const int branch = (step + world.rank()) % 3;
            {
              const auto accumulation = parallel.accumulate();
              net.loss(world.rank() * 50 + step, kBatch, branch != 1).backward();
            }
            net.loss(world.rank() + step, kBatch, branch != 0, branch != 1).backward();
            expect_ok(parallel.step().status());
            expect(test::equal_everywhere(world, test::values(net)), "replicas differ");
          }
          expect_ok(parallel.end());
        },
        small_buckets(algorithm)));
  }
}

TEST_CASE("several types: who has no more data joins") {
  torch::set_num_threads(1);
  for (const std::string algorithm : {"auto", "ring"}) {
    for (const bool library_updates : {false, true}) {
      INFO(algorithm << ", library updates: " << library_updates);
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", 3,
          [&](World& world) {
            MixedNet net;
            torch::optim::Adam optimizer(net.parameters(), 0.01);
            libtorch::AttachOptions options;
            if (library_updates) options.update = Adam{.learning_rate = 0.01};
            auto parallel = attach(net, world, options).value();
            const auto before = test::values(net);
            for (int step = 0; step < 2 * world.rank(); ++step) {
              if (!library_updates) optimizer.zero_grad();
              net.loss(world.rank() * 10 + step, kBatch).backward();
              expect_ok(parallel.step(optimizer).status());
            }
            expect_ok(library_updates ? parallel.join() : parallel.join(optimizer));
            expect(test::equal_everywhere(world, test::values(net)), "replicas differ");
            expect(test::values(net) != before, "rank 0's replica was trained by the others");
            expect_ok(parallel.end());
          },
          small_buckets(algorithm)));
    }
  }
}

// On two ranks from first_step() to `until`, saving every second step; returns rank 0's end.
std::vector<double> train_resumed(const std::string& directory, std::uint64_t first,
                                  std::uint64_t until) {
  std::vector<double> end;
  test::run_ranks("shm", 2, [&](World& world) {
    MixedNet net;
    libtorch::AttachOptions options{.update = Momentum{.learning_rate = 0.1}};
    options.checkpoints = CheckpointOptions{.directory = directory, .resume = first > 0};
    auto parallel = attach(net, world, options).value();
    expect(parallel.first_step() == first, "first_step()");
    for (auto step = first; step < until; ++step) {
      net.loss(static_cast<int64_t>(step) * 8 + world.rank() * kBatch, kBatch).backward();
      expect_ok(parallel.step().status());
      if (step % 2 == 1) expect_ok(parallel.save());
    }
    expect_ok(parallel.end());
    if (world.rank() == 0) end = test::values(net);
  });
  return end;
}

TEST_CASE("several types: a job resumes from the newest step that both have") {
  torch::set_num_threads(1);
  const test::ScratchFolder scratch;
  const auto whole = train_resumed(scratch.path("whole"), 0, 7);
  const auto stopped = scratch.path("stopped");
  train_resumed(stopped, 0, 4);
  CHECK(train_resumed(stopped, 4, 7) == whole);
  // As after a crash between the two last renames.
  REQUIRE(std::filesystem::remove_all(stopped + "/f64/step-000006") > 0);
  CHECK(train_resumed(stopped, 4, 7) == whole);
  REQUIRE(std::filesystem::remove_all(stopped + "/f64/step-000006") > 0);
  REQUIRE(std::filesystem::remove_all(stopped + "/f32/step-000004") > 0);
  std::string story;
  try {
    train_resumed(stopped, 4, 7);
  } catch (const std::exception& error) {
    story = error.what();
  }
  CHECK(story.find("that of f32 lacks step 4") != std::string::npos);
}

TEST_CASE("what several types cannot have names the parameter") {
  auto world = World::open({}).value();
  MixedNet net;
  const auto story = [&](libtorch::AttachOptions options) {
    return attach(net, world, std::move(options)).status().message();
  };
  const auto ps = story({.strategy = "sync-ps", .update = Sgd{}});
  CHECK(ps.find("parameter 'head.bias' is f32 on cpu, others are f64 on cpu") != std::string::npos);
  CHECK(ps.find("choose ring") != std::string::npos);
  Update clipped = Sgd{};
  clipped.clip_norm = 1;
  CHECK(story({.update = clipped}).find("clip_norm") != std::string::npos);
  const CheckpointOptions one{.directory = "nowhere", .keep = 1};
  CHECK(story({.checkpoints = one}).find("keep at least 2") != std::string::npos);
}

TEST_CASE("ranks with other types are refused on every rank") {
  REQUIRE_NOTHROW(test::run_ranks("shm", 2, [](World& world) {
    MixedNet net;
    if (world.rank() == 1) net.to(torch::kFloat32);
    const auto story = attach(net, world).status().message();
    expect(story.find("different element types") != std::string::npos, "{}", story);
  }));
}

}  // namespace
