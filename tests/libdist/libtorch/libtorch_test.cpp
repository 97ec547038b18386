// SPDX-License-Identifier: Apache-2.0
// Training is what one process would do; replicas stay equal whatever they compute.
#include <dist/libtorch.h>

#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/libdist/libtorch/net.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using libtorch::attach;
using test::expect;
using test::expect_ok;
using test::TorchNet;

constexpr int kSteps = 5;
constexpr int64_t kBatch = 4;

Options small_buckets(const std::string& algorithm = "auto") {
  Options options;
  options.algorithm = algorithm;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 512_B;
  options.timeout = std::chrono::seconds(60);
  return options;
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const std::string& name, TorchNet& net) {
  if (name == "adam") return std::make_unique<torch::optim::Adam>(test::trainable(net), 0.01);
  return std::make_unique<torch::optim::SGD>(test::trainable(net),
                                             torch::optim::SGDOptions(0.1).momentum(0.9));
}

// The program before it knew of libdist: one process, the batches of all ranks.
std::vector<double> train_alone(const std::string& optimizer_name, int ranks, torch::Dtype type) {
  TorchNet net;
  net.to(type);
  auto optimizer = make_optimizer(optimizer_name, net);
  for (int step = 0; step < kSteps; ++step) {
    optimizer->zero_grad();
    test::loss(net, step * ranks * kBatch, ranks * kBatch).backward();
    optimizer->step();
  }
  return test::values(net);
}

TEST_CASE("N ranks of batch 4 equal one process of batch 4N, with the program's own optimizer") {
  torch::set_num_threads(1);
  for (const int ranks : {2, 3, 4}) {
    for (const std::string name : {"sgd", "adam"}) {
      for (const std::string algorithm : {"auto", "ring"}) {
        const auto type = name == "adam" ? torch::kFloat64 : torch::kFloat32;
        const auto expected = train_alone(name, ranks, type);
        INFO(ranks << " ranks, " << name << ", " << algorithm);
        REQUIRE_NOTHROW(test::run_ranks(
            "shm", ranks,
            [&](World& world) {
              TorchNet net;
              net.to(type);
              if (world.rank() != 0) torch::nn::init::zeros_(net.left->weight);
              auto optimizer = make_optimizer(name, net);
              auto parallel = attach(net, world).value();
              for (int step = 0; step < kSteps; ++step) {
                optimizer->zero_grad();
                test::loss(net, (step * ranks + world.rank()) * kBatch, kBatch).backward();
                optimizer->step();
              }
              expect(parallel.repairs() == 0, "nothing was to be repaired");
              expect(test::distance(expected, test::values(net)) < 1e-5,
                     "differs from one process");
              expect(test::equal_everywhere(world, test::values(net)), "replicas differ");
              expect_ok(parallel.end());
            },
            small_buckets(algorithm)));
      }
    }
  }
}

TEST_CASE("the library's update, on the ranks or at the servers, equals torch's own optimizer") {
  torch::set_num_threads(1);
  for (const int ranks : {1, 3}) {
    for (const std::string strategy : {"ring", "sync-ps"}) {
      INFO(ranks << " ranks, " << strategy);
      const auto expected = train_alone("sgd", ranks, torch::kFloat32);
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", ranks,
          [&](World& world) {
            TorchNet net;
            auto parallel = attach(net, world,
                                   {.strategy = strategy,
                                    .update = Momentum{.learning_rate = 0.1, .momentum = 0.9}})
                                .value();
            for (int step = 0; step < kSteps; ++step) {
              test::loss(net, (step * ranks + world.rank()) * kBatch, kBatch).backward();
              const auto report = parallel.step().value();
              expect(report.step == static_cast<std::uint64_t>(step), "the report's step");
            }
            const auto far = test::distance(expected, test::values(net));
            expect(far < 1e-5, "differs from one process: {}", far);
            expect_ok(parallel.end());
            expect(test::distance(expected, test::values(net)) < 1e-5, "end() loses parameters");
          },
          small_buckets()));
    }
  }
}

TEST_CASE("an update with a schedule and clipping, at the ranks or at a server, is torch's") {
  torch::set_num_threads(1);
  Update update = Momentum{.learning_rate = 0.1, .momentum = 0.9};
  update.schedule = {.decay = StepDecay{.interval_steps = 2, .factor = 0.5}};
  update.clip_norm = 0.02;
  TorchNet alone;
  torch::optim::SGD optimizer(test::trainable(alone), torch::optim::SGDOptions(0.1).momentum(0.9));
  int clipped = 0;
  for (int step = 0; step < kSteps; ++step) {
    auto& group = static_cast<torch::optim::SGDOptions&>(optimizer.param_groups()[0].options());
    group.lr(0.1 * std::pow(0.5, step / 2));
    optimizer.zero_grad();
    test::loss(alone, step * 2 * kBatch, 2 * kBatch).backward();
    if (torch::nn::utils::clip_grad_norm_(test::trainable(alone), 0.02) > 0.02) ++clipped;
    optimizer.step();
  }
  CHECK(clipped == kSteps);
  auto options = small_buckets();
  options.servers = 1;
  for (const std::string strategy : {"ring", "sync-ps"}) {
    INFO(strategy);
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 2,
        [&](World& world) {
          TorchNet net;
          auto parallel = attach(net, world, {.strategy = strategy, .update = update}).value();
          for (int step = 0; step < kSteps; ++step) {
            test::loss(net, (step * 2 + world.rank()) * kBatch, kBatch).backward();
          }
          const auto far = test::distance(test::values(alone), test::values(net));
          expect(far < 1e-5, "differs from torch's: {}", far);
          expect_ok(parallel.end());
        },
        options));
  }
}

TEST_CASE("async-ps trains, and a rank that only serves serves") {
  torch::set_num_threads(1);
  auto options = small_buckets();
  options.placement = Placement::dedicated;
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 3,
      [](World& world) {
        TorchNet net(true);
        auto parallel =
            attach(net, world, {.strategy = "async-ps", .update = Sgd{.learning_rate = 0.2}})
                .value();
        expect(parallel.workers() == 2, "two ranks work");
        if (parallel.worker() >= 0) {
          const double before = test::loss(net, 0, 12).item<double>();
          for (int step = 0; step < 40; ++step) {
            test::loss(net, (step + parallel.worker()) % 3 * kBatch, kBatch).backward();
            expect_ok(parallel.step().status());
          }
          expect_ok(parallel.synchronize_buffers());
          const double after = test::loss(net, 0, 12).item<double>();
          expect(after < before - 0.03, "the loss fell from {} to {}", before, after);
        }
        expect_ok(parallel.end());
      },
      options));
}

TEST_CASE("different branches, an unused layer, a shared one, micro-steps: replicas stay equal") {
  torch::set_num_threads(1);
  for (const std::string algorithm : {"auto", "ring"}) {
    INFO(algorithm);
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 3,
        [](World& world) {
          TorchNet net;
          auto parallel = attach(net, world).value();
          torch::optim::Adam optimizer(test::trainable(net), 0.01);
          for (int step = 0; step < 6; ++step) {
            optimizer.zero_grad();
            const bool left = (step + world.rank()) % 3 != 0;
            {
              const auto accumulation = parallel.accumulate();
              for (int micro = 0; micro < 2; ++micro) {
                test::loss(net, world.rank() * 50 + micro, kBatch, left, !left).backward();
              }
              expect(step > 0 || !test::equal_everywhere(
                                     world, {net.conv->weight.grad().sum().item<double>()}),
                     "accumulating exchanges nothing");
            }
            test::loss(net, step + world.rank(), kBatch, left, step % 2 == 1).backward();
            expect_ok(parallel.step(optimizer).status());
            expect(test::equal_everywhere(world, test::values(net)), "replicas differ");
          }
          // The last step of rank 2 reaches no parameter at all.
          optimizer.zero_grad();
          if (world.rank() != 2) test::loss(net, 1, kBatch).backward();
          expect_ok(parallel.step(optimizer).status());
          expect(test::equal_everywhere(world, test::values(net)), "replicas differ at the end");
          expect(parallel.repairs() == 0, "nothing was to be repaired");
          expect_ok(parallel.end());
        },
        small_buckets(algorithm)));
  }
}

TEST_CASE("uneven data: who has none left joins, from the first step on if need be") {
  torch::set_num_threads(1);
  REQUIRE_NOTHROW(test::run_ranks("shm", 3, [](World& world) {
    TorchNet net;
    auto parallel = attach(net, world).value();
    torch::optim::Adam optimizer(test::trainable(net), 0.01);
    const auto before = test::values(net);
    for (int step = 0; step < 2 * world.rank(); ++step) {
      optimizer.zero_grad();
      test::loss(net, world.rank() * 10 + step, kBatch).backward();
      optimizer.step();
    }
    expect_ok(parallel.join(optimizer));
    expect(test::equal_everywhere(world, test::values(net)), "replicas differ");
    expect(test::values(net) != before, "rank 0's replica was trained by the others");
    expect_ok(parallel.end());
  }));
}

// Trains from first_step() to `until`, on one directory; returns rank 0's end.
std::vector<double> train_resumed(const std::string& directory, const std::string& strategy,
                                  bool resume, std::uint64_t until) {
  std::vector<double> end;
  test::run_ranks("shm", 2, [&](World& world) {
    TorchNet net(true);
    torch::optim::Adam optimizer(test::trainable(net), 0.01);
    libtorch::AttachOptions options{.strategy = strategy};
    if (strategy != "ring") options.update = Momentum{.learning_rate = 0.1};
    options.checkpoints = CheckpointOptions{.directory = directory, .resume = resume};
    auto parallel = attach(net, world, options).value();
    expect_ok(parallel.restore(optimizer));
    expect(parallel.first_step() == (resume ? 3 : 0), "first_step()");
    for (auto step = parallel.first_step(); step < until; ++step) {
      optimizer.zero_grad();
      test::loss(net, static_cast<int64_t>(step) * 8 + world.rank() * kBatch, kBatch).backward();
      expect_ok(parallel.step(optimizer).status());
      expect_ok(parallel.synchronize_buffers());
      if (step == 2) expect_ok(strategy == "ring" ? parallel.save(optimizer) : parallel.save());
    }
    expect(parallel.reattach().message().find("checkpoints") != std::string::npos, "reattach()");
    expect_ok(parallel.end());
    if (world.rank() != 0) return;
    end = test::values(net);
    end.push_back(net.norm->running_var.sum().item<double>());
  });
  return end;
}

TEST_CASE("a job that resumes ends with the bits of one that was never stopped") {
  torch::set_num_threads(1);
  const auto directory =
      std::filesystem::temp_directory_path() / ("libtorch-test-" + std::to_string(getpid()));
  for (const std::string strategy : {"ring", "sync-ps"}) {
    INFO(strategy);
    const auto whole = train_resumed(directory.string(), strategy, false, 6);
    std::filesystem::remove_all(directory);
    train_resumed(directory.string(), strategy, false, 3);
    CHECK(train_resumed(directory.string(), strategy, true, 6) == whole);
    std::filesystem::remove_all(directory);
  }
}

TEST_CASE("three micro-steps are one step of three times the batch") {
  torch::set_num_threads(1);
  const auto expected = train_alone("sgd", 3, torch::kFloat32);
  auto world = World::open({}).value();
  TorchNet net;
  auto optimizer = make_optimizer("sgd", net);
  auto parallel = attach(net, world).value();
  for (int step = 0; step < kSteps; ++step) {
    optimizer->zero_grad();
    for (int micro = 0; micro < 3; ++micro) {
      std::optional<libtorch::Parallel::Accumulation> accumulation;
      const auto part = test::loss(net, (step * 3 + micro) * kBatch, kBatch) / 3;
      if (micro == 2) {
        part.backward();
      } else {
        const auto scope = parallel.accumulate();
        part.backward();
      }
    }
    REQUIRE_OK(parallel.step(*optimizer));
  }
  CHECK(test::distance(expected, test::values(net)) < 1e-5);
  REQUIRE_OK(parallel.end());
}

TEST_CASE("buffers: rank 0's at the beginning and when asked for") {
  torch::set_num_threads(1);
  for (const auto policy : {libtorch::Buffers::broadcast, libtorch::Buffers::keep}) {
    REQUIRE_NOTHROW(test::run_ranks("shm", 2, [&](World& world) {
      TorchNet net(true);
      net.norm->running_mean.fill_(world.rank());
      net.scale.data().fill_(2 + world.rank());
      auto parallel = attach(net, world, {.buffers = policy}).value();
      const double kept = policy == libtorch::Buffers::keep ? world.rank() : 0;
      expect(net.norm->running_mean[3].item<double>() == kept, "buffers after attach()");
      expect(net.scale[0].item<double>() == 2 + kept, "frozen parameters after attach()");
      test::loss(net, 100 * world.rank(), kBatch).backward();
      const auto mean = [&] { return net.norm->running_mean.sum().item<double>(); };
      expect(!test::equal_everywhere(world, {mean()}), "each rank has its own statistics");
      expect_ok(parallel.synchronize_buffers());
      expect(test::equal_everywhere(world, {mean()}) == (policy == libtorch::Buffers::broadcast),
             "synchronize_buffers()");
      expect(net.norm->num_batches_tracked.item<int64_t>() == 1, "integers stay integers");
      expect_ok(parallel.end());
    }));
  }
}

TEST_CASE("what cannot be attached says what to do") {
  auto world = World::open({}).value();
  const auto story = [&](torch::nn::Module& module, libtorch::AttachOptions options = {}) {
    return attach(module, world, std::move(options)).status().message();
  };
  TorchNet net;
  CHECK(story(net, {.strategy = "sync-ps"}).find("mean-gradient") != std::string::npos);
  CHECK(story(net, {.strategy = "rong"}).find("valid: ring") != std::string::npos);
  for (const auto type : {torch::kFloat16, torch::kBFloat16}) {
    net.left->to(type);
    CHECK(story(net).find("'left.weight' is " + std::string(torch::toString(type))) !=
          std::string::npos);
  }
  torch::nn::Module elsewhere;
  elsewhere.register_parameter("there", torch::empty({3}, torch::kMeta));
  CHECK(story(elsewhere).find("'there' is on meta") != std::string::npos);
  for (auto& parameter : net.parameters()) parameter.requires_grad_(false);
  CHECK(story(net).find("no parameter of the module requires a gradient") != std::string::npos);
}

}  // namespace
