// SPDX-License-Identifier: Apache-2.0
// Modules on a GPU, on fake ones: training is what it is on the host, to the same bits.
#include <dist/libtorch.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/libdist/libtorch/fake_accelerator.h"
#include "tests/libdist/libtorch/net.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using libtorch::attach;
using libtorch::AttachOptions;
using test::expect;
using test::expect_ok;
using test::small_buckets;

constexpr int kSteps = 5;
constexpr int64_t kBatch = 4;

// Layers one after the other; `second` may be on another device than the rest.
struct Layers : torch::nn::Module {
  Layers()
      : first(register_module("first", torch::nn::Linear(6, 8))),
        norm(register_module("norm", torch::nn::BatchNorm1d(8))),
        second(register_module("second", torch::nn::Linear(8, 8))),
        third(register_module("third", torch::nn::Linear(8, 3))) {
    const torch::NoGradGuard no_grad;
    double at = 0;
    for (auto& parameter : parameters()) {
      parameter.copy_(torch::sin(torch::arange(parameter.numel()) * 0.37 + (at += 1))
                          .reshape(parameter.sizes()) *
                      0.5);
    }
  }

  torch::Tensor loss(int64_t sample) {
    const auto samples = torch::sin(torch::arange(sample * 6, (sample + kBatch) * 6) * 0.71)
                             .reshape({kBatch, 6})
                             .to(first->weight.device());
    auto x = torch::tanh(norm->forward(first->forward(samples)));
    x = torch::tanh(second->forward(x.to(second->weight.device())));
    return third->forward(x.to(third->weight.device())).pow(2).mean();
  }

  torch::nn::Linear first;
  torch::nn::BatchNorm1d norm;
  torch::nn::Linear second, third;
};

// Parameters and buffers.
std::vector<double> state_of(const Layers& net) {
  auto tensors = net.parameters();
  for (const auto& buffer : net.buffers()) tensors.push_back(buffer);
  return test::values(tensors);
}

AttachOptions on_fakes(const std::string& strategy, Update update = MeanGradient{}) {
  AttachOptions options;
  options.strategy = strategy;
  options.update = update;
  options.accelerator = test::find_fake_accelerator;
  return options;
}

// What an exception says.
std::string story_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

void expect_in(const std::string& story, const std::vector<std::string>& parts) {
  for (const auto& part : parts) {
    expect(story.find(part) != std::string::npos, "no '{}' in '{}'", part, story);
  }
}

using Move = std::function<void(World&, Layers&)>;

void to_gpu(World& world, Layers& net) { net.to(test::fake_place(world.rank())); }

// A part of the module on another GPU, which no other rank uses either.
void to_two_gpus(World& world, Layers& net) {
  net.to(test::fake_place(2 * world.rank()));
  net.second->to(test::fake_place(2 * world.rank() + 1));
}

// Trains on every rank; the state of rank 0 in the end. All replicas are then equal, and nothing is
// left on the GPUs.
std::vector<double> train(int ranks, const Options& options, const AttachOptions& attach_options,
                          const Move& move) {
  std::vector<double> final_state;
  const auto fakes = test::make_fake_accelerators();
  test::run_ranks(
      "shm", ranks,
      [&](World& world) {
        Layers net;
        if (world.rank() != 0) torch::nn::init::zeros_(net.second->weight);
        move(world, net);
        torch::optim::Adam optimizer(net.parameters(), 0.01);
        auto parallel = attach(net, world, attach_options).value();
        for (int step = 0; step < kSteps; ++step) {
          optimizer.zero_grad();
          net.loss((step * ranks + world.rank()) * kBatch).backward();
          expect_ok(parallel.step(optimizer).status());
        }
        expect_ok(parallel.synchronize_buffers());
        const auto state = state_of(net);
        expect(test::equal_everywhere(world, state), "replicas differ");
        expect(parallel.repairs() == 0, "nothing was to be repaired");
        expect(test::current_fake() == 0, "the thread's current GPU");
        expect_ok(parallel.end());
        if (world.rank() == 0) final_state = state;
      },
      options);
  for (const auto& fake : fakes) CHECK(fake->allocations() == 0);
  return final_state;
}

TEST_CASE("a module on a GPU trains as on the host, whoever updates") {
  torch::set_num_threads(1);
  const Update none = MeanGradient{};
  const Update momentum = Momentum{.learning_rate = 0.1};
  struct Case {
    std::string strategy;
    std::string algorithm;
    int ranks;
    Update update;
  };
  for (const Case& c : {Case{"none", "auto", 1, none}, Case{"none", "auto", 1, momentum},
                        Case{"ring", "ring", 3, none}, Case{"ring", "ring", 3, momentum},
                        Case{"ring", "auto", 3, none}, Case{"ring", "auto", 3, momentum},
                        Case{"sync-ps", "auto", 3, momentum}}) {
    INFO(c.strategy << ", " << c.algorithm << " on " << c.ranks << " ranks, "
                    << name_of(c.update.rule));
    const auto options = on_fakes(c.strategy, c.update);
    const auto on_host =
        train(c.ranks, small_buckets(c.algorithm), options, [](World&, Layers&) {});
    CHECK(train(c.ranks, small_buckets(c.algorithm), options, to_gpu) == on_host);
  }
}

TEST_CASE("a module on two GPUs trains as on the host") {
  torch::set_num_threads(1);
  for (const std::string algorithm : {"ring", "auto"}) {
    for (const Update& update : {Update(MeanGradient{}), Update(Adam{.learning_rate = 0.01})}) {
      INFO(algorithm << ", " << name_of(update.rule));
      const auto options = on_fakes("ring", update);
      const auto on_host = train(2, small_buckets(algorithm), options, [](World&, Layers&) {});
      const auto on_gpus = train(2, small_buckets(algorithm), options, to_two_gpus);
      CHECK(test::distance(on_host, on_gpus) < 1e-5);  // buckets, and so sums, are others
    }
  }
}

// The first three steps, then the others in a job that goes on from their checkpoint.
std::vector<double> train_in_two_jobs(const Update& update, const Move& move) {
  const test::ScratchFolder folder;
  const auto fakes = test::make_fake_accelerators();
  std::vector<double> final_state;
  for (const int last : {3, kSteps}) {
    auto options = on_fakes("ring", update);
    options.checkpoints =
        CheckpointOptions{.directory = folder.path("checkpoints"), .resume = last == kSteps};
    test::run_ranks(
        "shm", 2,
        [&](World& world) {
          Layers net;
          move(world, net);
          torch::optim::Adam optimizer(net.parameters(), 0.01);
          auto parallel = attach(net, world, options).value();
          expect_ok(parallel.restore(optimizer));
          for (auto step = static_cast<int>(parallel.first_step()); step < last; ++step) {
            optimizer.zero_grad();
            net.loss((step * 2 + world.rank()) * kBatch).backward();
            expect_ok(parallel.step(optimizer).status());
          }
          expect_ok(parallel.synchronize_buffers());
          if (last < kSteps) expect_ok(parallel.save(optimizer));
          if (world.rank() == 0) final_state = state_of(net);
          expect_ok(parallel.end());
        },
        small_buckets());
  }
  return final_state;
}

TEST_CASE("a job on GPUs goes on from its checkpoint to the same bits") {
  torch::set_num_threads(1);
  const Update none = MeanGradient{};
  const Update adam = Adam{.learning_rate = 0.01};
  CHECK(train_in_two_jobs(none, to_gpu) == train(2, small_buckets(), on_fakes("ring"), to_gpu));
  for (const Move& move : {Move(to_gpu), Move(to_two_gpus)}) {
    CHECK(train_in_two_jobs(adam, move) == train(2, small_buckets(), on_fakes("ring", adam), move));
  }
  const auto refused = story_of([&] { train_in_two_jobs(none, to_two_gpus); });
  CHECK(refused.find("let the library update") != std::string::npos);
}

TEST_CASE("a module that moved from the host to a GPU is attached again") {
  torch::set_num_threads(1);
  const auto fakes = test::make_fake_accelerators();
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [&](World& world) {
        Layers net;
        auto parallel = attach(net, world, on_fakes("ring", Sgd{.learning_rate = 0.1})).value();
        net.loss(world.rank()).backward();
        expect_ok(parallel.step().status());
        to_gpu(world, net);
        expect_in(story_of([&] { net.loss(world.rank()).backward(); }), {"call reattach()"});
        expect_ok(parallel.reattach());
        net.loss(world.rank()).backward();
        const auto report = parallel.step().value();
        expect(report.algorithm.starts_with("staged"), "{}", report.algorithm);
        expect_ok(parallel.synchronize_buffers());
        expect(test::equal_everywhere(world, state_of(net)), "replicas differ");
        expect_ok(parallel.end());
      },
      small_buckets()));
}

TEST_CASE("another current stream than at attach() is an error") {
  torch::set_num_threads(1);
  const auto fakes = test::make_fake_accelerators();
  REQUIRE_NOTHROW(test::run_ranks("shm", 1, [&](World& world) {
    Layers net;
    to_gpu(world, net);
    auto parallel = attach(net, world, on_fakes("ring", Sgd{.learning_rate = 0.1})).value();
    test::set_current_fake_stream(0, 1);
    const auto before = test::values(net);
    expect_in(story_of([&] { net.loss(0).backward(); }),
              {test::fake_place(0).str(), "the current stream is another"});
    expect(test::values(net) == before, "nothing is updated");
    test::set_current_fake_stream(0, 0);
  }));
}

TEST_CASE("a GPU that cannot be used is named, with the parameter") {
  const auto fakes = test::make_fake_accelerators();
  auto refusing = on_fakes("ring");
  refusing.accelerator = [](torch::Device) -> Result<libtorch::Accelerator> {
    return Status::unavailable("no driver");
  };
  test::run_ranks("shm", 1, [&](World& world) {
    Layers net;
    to_gpu(world, net);
    expect_in(attach(net, world, refusing).status().message(),
              {"'third.bias'", test::fake_place(0).str(), "no driver"});
    expect_in(attach(net, world, {}).status().message(),
              {test::fake_place(0).str(), "neither host memory nor a GPU of CUDA"});
  });
}

TEST_CASE("ranks on the host and on a GPU in one job are told") {
  const auto fakes = test::make_fake_accelerators();
  test::run_ranks("shm", 2, [&](World& world) {
    Layers net;
    if (world.rank() == 1) to_gpu(world, net);
    expect_in(attach(net, world, on_fakes("ring")).status().message(), {"kinds of devices"});
  });
}

}  // namespace
