// SPDX-License-Identifier: Apache-2.0
// The handle of an operation in flight, over tasks that end when the test says so.
#include "libdist/work.h"

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;

class Switch final : public Task {
 public:
  explicit Switch(std::shared_ptr<std::atomic<int>> state) : state_(std::move(state)) {}
  Result<Advance> advance(Transport&) override {
    if (*state_ < 0) return Status::peer_lost("rank 1 is gone").because("the operation");
    return *state_ > 0 ? Advance::finished : Advance::idle;
  }
  std::string waits_for() const override { return "the switch"; }
  Duration poll_interval() const override { return std::chrono::milliseconds(1); }

 private:
  std::shared_ptr<std::atomic<int>> state_;
};

// An operation that goes on until `state` is 1 (it succeeds) or -1 (it fails).
struct Operation {
  explicit Operation(World& world)
      : work(world.progress().submit(std::make_unique<Switch>(state)), "all-reduce") {}
  std::shared_ptr<std::atomic<int>> state = std::make_shared<std::atomic<int>>(0);
  Work work;
};

World alone() { return World::over(std::move(test::make_group("shm", 1)[0]), {}); }

TEST_CASE("an operation in flight can be asked, and waited for up to a deadline") {
  World world = alone();
  Operation operation(world);
  CHECK_FALSE(operation.work.test());
  CHECK(operation.work.status().ok());
  const Status late = operation.work.wait_until(Clock::now() + std::chrono::milliseconds(20));
  CHECK(late.code() == ErrorCode::timed_out);
  CHECK(late.message().starts_with("all-reduce: has not ended"));
  CHECK_FALSE(operation.work.test());  // it goes on
  *operation.state = 1;
  CHECK(operation.work.wait_until(Clock::now() + std::chrono::seconds(60)).ok());
  CHECK(operation.work.test());
  CHECK(operation.work.wait().ok());
  CHECK(operation.work.wait_until(TimePoint()).ok());  // ended: the deadline matters no more
}

TEST_CASE("a failure is told by wait, status and again") {
  World world = alone();
  Operation operation(world);
  *operation.state = -1;
  CHECK(operation.work.wait().message() == "the operation -> rank 1 is gone");
  CHECK(operation.work.status().code() == ErrorCode::peer_lost);
  CHECK(operation.work.wait_until(TimePoint()).code() == ErrorCode::peer_lost);
  CHECK(operation.work.test());
}

TEST_CASE("the destructor and an assignment wait for the end") {
  World world = alone();
  for (const bool assign : {false, true}) {
    std::optional<Operation> operation(std::in_place, world);
    const auto state = operation->state;
    std::atomic<bool> released{false};
    std::thread releaser([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      released = true;
      *state = 1;
    });
    if (assign) {
      operation->work = Work();
    } else {
      operation.reset();
    }
    CHECK(released);
    releaser.join();
  }
}

TEST_CASE("a moved work is empty, what it was lives on") {
  World world = alone();
  Operation operation(world);
  Work moved(std::move(operation.work));
  CHECK(operation.work.test());  // NOLINT: moved from on purpose
  CHECK(operation.work.wait().ok());
  CHECK_FALSE(moved.test());
  *operation.state = 1;
  CHECK(moved.wait().ok());
}

TEST_CASE("work without an operation has ended") {
  CHECK(Work().test());
  CHECK(Work().wait().ok());
  Work failed(Status::invalid_argument("no such root"));
  CHECK(failed.test());
  CHECK(failed.wait().message() == "no such root");
}

TEST_CASE("work outlives its world, which ends it") {
  std::optional<World> world(alone());
  Operation operation(*world);
  world.reset();
  CHECK(operation.work.test());
  CHECK(operation.work.wait().code() == ErrorCode::cancelled);
}

}  // namespace
