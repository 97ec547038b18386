// SPDX-License-Identifier: Apache-2.0
// What arenas on a device add to the strategies: which path they take, and checkpoints that go
// from the device to the host and back.
#include "allreduce/device_strategy.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/device_training.h"
#include "tests/support/fake_device.h"
#include "tests/support/ranks.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using test::backward;
using test::by_name;
using test::expect;
using test::expect_ok;
using test::FakeDevice;
using test::Replica;
using test::train;

Options over(const std::string& transport, const std::string& algorithm = "auto") {
  Options options;
  options.transport = transport;
  options.algorithm = algorithm;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 512_B;
  options.timeout = std::chrono::seconds(60);
  return options;
}

TEST_CASE("the path follows the options, and none is slower than it must be") {
  struct Case {
    std::string name;
    Options options;
    std::string algorithm;
  };
  Options bounded = over("shm");
  bounded.staleness = 0;
  Options half = over("shm");
  half.compress = "f16";
  const std::vector<Case> cases = {{"ring", over("shm"), "device sweep"},
                                   {"ring", over("shm", "ring"), "staged ring"},
                                   {"ring", over("tcp"), "staged ring"},
                                   {"ring", half, "staged"},
                                   {"sync-ps", over("shm"), "staged"},
                                   {"async-ps", bounded, "staged"},
                                   {"none", over("shm"), ""}};
  for (const Case& chosen : cases) {
    INFO(chosen.name << " over " << chosen.options.transport << ", " << chosen.algorithm);
    REQUIRE_NOTHROW(test::run_ranks(
        chosen.options.transport, 2,
        [&](World& world) {
          FakeDevice device({.most_delay = std::chrono::microseconds(200), .attach_anew = true});
          const Update update = Momentum{.learning_rate = 0.05};
          const auto expected = train(world, update, nullptr, by_name(chosen.name));
          const auto values = train(world, update, &device, by_name(chosen.name), chosen.algorithm);
          expect(values == expected, "the host's bits");
        },
        chosen.options));
  }
}

TEST_CASE("alone nothing waits for the device") {
  REQUIRE_NOTHROW(test::run_ranks("shm", 1, [](World& world) {
    for (const std::string name : {"ring", "sync-ps", "none"}) {
      FakeDevice device;
      const Replica replica(&device);
      const auto strategy = by_name(name)(world, *replica.arena, Momentum{});
      expect(strategy->name() == name && strategy->workers() == 1, "name and workers");
      expect_ok(strategy->begin());
      replica.wait();
      device.hold(replica.stream);
      backward(replica, *strategy, 0, 0);
      expect_ok(strategy->await(1));
      expect_ok(strategy->finish_step().status());
      device.let_go(replica.stream);
      expect_ok(strategy->end());
    }
  }));
}

TEST_CASE("what cannot be is refused when the strategy is made") {
  const auto refusal = [](const std::string& name, const Options& options, const Update& update) {
    Status why;
    test::run_ranks(
        "shm", 1,
        [&](World& world) {
          FakeDevice device;
          const Replica replica(&device);
          why = make_strategy(name, world, *replica.arena, update).status();
        },
        options);
    return why;
  };
  CHECK(refusal("sync-ps", over("shm"), MeanGradient{}).code() == ErrorCode::invalid_argument);
  CHECK(refusal("rong", over("shm"), Sgd{}).message().find("valid: ring") != std::string::npos);
  CHECK(refusal("async-ps", over("nccl"), Sgd{}).code() == ErrorCode::invalid_argument);
  Options half = over("nccl");
  half.compress = "f16";
  CHECK(refusal("ring", half, Sgd{}).message().find("ring: compress needs") != std::string::npos);
  Status host;
  test::run_ranks(
      "shm", 1,
      [&](World& world) {
        const Replica replica(nullptr);
        host = make_strategy("ring", world, *replica.arena, Sgd{}).status();
      },
      over("nccl"));
  CHECK(host.message().find("this arena is in host memory") != std::string::npos);
}

// Two steps, or what follows them from a checkpoint.
std::vector<float> train_on(World& world, FakeDevice* device, const std::string& directory,
                            bool resume) {
  const Replica replica(device);
  auto all = make_group(world).value();
  const Update update = Adam{.learning_rate = 0.01};
  auto checkpoints = Checkpoints::open(*all, *replica.arena, name_of(update.rule),
                                       {.directory = directory, .resume = resume})
                         .value();
  const auto strategy = by_name("ring")(world, *replica.arena, update);
  checkpoints->attach(*strategy);
  expect_ok(strategy->begin());
  const std::size_t first = resume ? 2 : 0;
  expect(strategy->next_step() == first, "next_step()");
  for (std::size_t step = first; step < first + 2; ++step) {
    backward(replica, *strategy, world.rank(), step);
    const auto report = strategy->finish_step();
    expect_ok(report.status());
    expect(report->step == step, "StepReport::step");
  }
  if (!resume) expect_ok(checkpoints->save(*strategy));
  expect_ok(strategy->end());
  expect_ok(checkpoints->wait());
  return replica.parameters();
}

TEST_CASE("a run goes on from a device's checkpoint on the host, and the other way round") {
  for (const int ranks : {1, 3}) {
    std::vector<std::vector<float>> ends(4);
    for (const int pair : {0, 1, 2, 3}) {
      INFO(ranks << " ranks, from " << pair / 2 << " to " << pair % 2);
      const test::ScratchFolder folder;
      for (const bool resume : {false, true}) {
        const bool on_device = resume ? pair % 2 == 1 : pair / 2 == 1;
        REQUIRE_NOTHROW(test::run_ranks(
            "shm", ranks,
            [&](World& world) {
              FakeDevice device(
                  {.most_delay = std::chrono::microseconds(200), .attach_anew = true});
              const auto last =
                  train_on(world, on_device ? &device : nullptr, folder.path() + "/run", resume);
              if (world.rank() == 0) ends[static_cast<std::size_t>(pair)] = last;
            },
            over("shm")));
      }
      REQUIRE(ends[static_cast<std::size_t>(pair)] == ends.front());
    }
  }
}

TEST_CASE("none saves nothing where ranks have parameters of their own") {
  const test::ScratchFolder folder;
  REQUIRE_NOTHROW(test::run_ranks("shm", 2, [&](World& world) {
    FakeDevice device;
    const Replica replica(&device);
    auto all = make_group(world).value();
    auto checkpoints =
        Checkpoints::open(*all, *replica.arena, "sgd", {.directory = folder.path() + "/run"})
            .value();
    const auto strategy = by_name("none")(world, *replica.arena, Sgd{});
    checkpoints->attach(*strategy);
    expect_ok(strategy->begin());
    const auto refused = strategy->save().status();
    expect(refused.message().find("a checkpoint holds one set") != std::string::npos, "refused");
  }));
}

}  // namespace
