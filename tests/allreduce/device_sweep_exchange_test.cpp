// SPDX-License-Identifier: Apache-2.0
// Ranks of one host in each other's arenas on fake GPUs, against the ring on the host, to the bit.
#include "allreduce/device_sweep_exchange.h"

#include <mutex>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/device_training.h"
#include "tests/support/fake_device.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::backward;
using test::by_name;
using test::expect;
using test::expect_ok;
using test::FakeDevice;
using test::Replica;
using test::train;
using test::train_uneven;

Options sweeping() {
  Options options;
  options.algorithm = "sweep";
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 512_B;
  options.timeout = std::chrono::seconds(60);
  return options;
}

// Every other rank lags far behind: who does not wait for it reads what is not there yet.
test::FakeDeviceOptions gpu_of(const World& world) {
  return {.seed = static_cast<unsigned>(world.rank() + 1),
          .most_delay = std::chrono::microseconds(world.rank() % 2 == 1 ? 1000 : 20),
          .attach_anew = true};
}

std::vector<Update> updates() {
  Update clipped = Adam{.learning_rate = 0.01, .weight_decay = 1e-3};
  clipped.clip_norm = 0.5;
  return {Sgd{.learning_rate = 0.1},
          Momentum{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3},
          Adam{.learning_rate = 0.01}, clipped,
          Lars{.learning_rate = 0.5, .weight_decay = 1e-3, .trust = 0.02}};
}

TEST_CASE("every step has the bits of the ring on the host") {
  for (const int ranks : {1, 2, 3, 4}) {
    for (const Update& update : updates()) {
      INFO(ranks << " ranks, " << name_of(update.rule) << ", clip " << update.clip_norm);
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", ranks,
          [&](World& world) {
            FakeDevice device(gpu_of(world));
            const auto expected = train(world, update, nullptr, by_name("ring"));
            const auto values = train(world, update, &device, by_name("ring"),
                                      world.ranks() == 1 ? "" : "device sweep");
            expect(values == expected, "the host's bits");
            expect(device.events_out() == 0, "marks were given back");
          },
          sweeping()));
    }
  }
}

TEST_CASE("uneven data: with the library's update and with the program's") {
  for (const bool program_updates : {false, true}) {
    INFO(program_updates);
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 3,
        [&](World& world) {
          FakeDevice device(gpu_of(world));
          train_uneven(world, device, by_name("ring"), program_updates);
        },
        sweeping()));
  }
}

TEST_CASE("a step's report says what the others read") {
  std::mutex mutex;
  std::vector<StepReport> reports;
  test::run_ranks(
      "shm", 2,
      [&](World& world) {
        FakeDevice device(gpu_of(world));
        const Replica replica(&device);
        const auto strategy = by_name("ring")(world, *replica.arena, Sgd{});
        expect_ok(strategy->begin());
        backward(replica, *strategy, world.rank(), 0);
        const auto report = strategy->finish_step().value();
        expect_ok(strategy->end());
        const std::lock_guard lock(mutex);
        reports.push_back(report);
      },
      sweeping());
  // Together each element of the arena (416 with its gaps) is read once as gradient and once as
  // parameter by the other rank.
  CHECK((reports[0].bytes_sent + reports[1].bytes_sent).value == 2 * 416 * sizeof(float));
  for (const StepReport& report : reports) {
    CHECK(report.contributors == 2);
    CHECK(report.update > Duration());
    CHECK(report.communication_busy >= report.communication_exposed);
  }
}

Status begin_where_one_fails(const std::string& operation, Options options) {
  std::mutex mutex;
  std::vector<Status> outcomes;
  test::run_ranks(
      "shm", 3,
      [&](World& world) {
        FakeDevice device(gpu_of(world));
        const Replica replica(&device);
        if (world.rank() == 1) device.fail(operation, Status::unavailable("no such handle"));
        const auto strategy = by_name("ring")(world, *replica.arena, Sgd{.learning_rate = 0.5});
        const Status begun = strategy->begin();
        if (begun.ok()) {
          backward(replica, *strategy, world.rank(), 0);
          const auto report = strategy->finish_step();
          expect_ok(report.status());
          expect(report->algorithm == "staged fused sweep", "{}", report->algorithm);
          expect_ok(strategy->end());
        }
        const std::lock_guard lock(mutex);
        outcomes.push_back(begun);
      },
      options);
  for (const Status& outcome : outcomes) CHECK(outcome.code() == outcomes.front().code());
  return outcomes.front();
}

TEST_CASE("where one rank cannot reach the memory of another, all of them do without") {
  for (const std::string operation : {"address", "attach"}) {
    INFO(operation);
    const Status refused = begin_where_one_fails(operation, sweeping());
    CHECK(refused.code() == ErrorCode::unavailable);
    Options automatic = sweeping();
    automatic.algorithm = "auto";
    automatic.transport = "shm";
    CHECK(begin_where_one_fails(operation, automatic).ok());
  }
}

TEST_CASE("a rank whose GPU hangs, fails, or is gone is told by the others") {
  for (const std::string how : {"hangs", "fails", "is gone"}) {
    INFO(how);
    Options options = sweeping();
    options.timeout = std::chrono::seconds(2);
    std::mutex mutex;
    std::vector<Status> outcomes(2);
    test::run_ranks(
        "shm", 2,
        [&](World& world) {
          FakeDevice device(gpu_of(world));
          const Replica replica(&device);
          auto strategy = by_name("ring")(world, *replica.arena, Sgd{});
          expect_ok(strategy->begin());
          const bool culprit = world.rank() == 1;
          if (culprit && how == "is gone") return;
          if (culprit && how == "hangs") device.hold(replica.stream);
          if (culprit && how == "fails") {
            device.break_down(replica.stream, Status::resource("illegal address"));
          }
          backward(replica, *strategy, world.rank(), 0);
          const Status outcome = strategy->finish_step().status();
          if (culprit && how == "hangs") device.let_go(replica.stream);
          strategy.reset();
          const std::lock_guard lock(mutex);
          outcomes[static_cast<std::size_t>(world.rank())] = outcome;
        },
        options);
    INFO(outcomes[0].message() << "; " << outcomes[1].message());
    CHECK_FALSE(outcomes[0].ok());
    if (how == "hangs") CHECK(outcomes[1].code() == ErrorCode::timed_out);
    if (how == "fails") {
      CHECK(outcomes[1].message().find("illegal address") != std::string::npos);
    }
  }
}

}  // namespace
