// SPDX-License-Identifier: Apache-2.0
// Operations that talk to a common peer run one after the other, others side by side.
#include "libdist/operation_order.h"

#include <atomic>
#include <memory>
#include <vector>

#include "libdist/world.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;

struct Step {
  std::atomic<bool> begun{false};
  std::atomic<bool> may_end{false};
};

class StepTask final : public Task {
 public:
  explicit StepTask(Step& step) : step_(step) {}
  Result<Advance> advance(Transport&) override {
    step_.begun = true;
    return step_.may_end ? Advance::finished : Advance::idle;
  }
  std::string waits_for() const override { return "a step"; }
  Duration poll_interval() const override { return std::chrono::milliseconds(1); }

 private:
  Step& step_;
};

auto peers(std::vector<Rank> ranks) {
  return std::make_shared<const std::vector<Rank>>(std::move(ranks));
}

World alone(const Options& options = {}) {
  return World::over(std::move(test::make_group("shm", 1)[0]), options);
}

TEST_CASE("an operation waits for all earlier ones that share a peer, and for no other") {
  World world = alone();
  OperationOrder order;
  Step first, second, third, after_both;
  const auto submit = [&](Step& step, std::vector<Rank> ranks) {
    return order.submit(world.progress(), std::make_unique<StepTask>(step), peers(ranks));
  };
  const Ticket one = submit(first, {1, 2});
  const Ticket two = submit(second, {3, 5});
  const Ticket both = submit(after_both, {2, 3});
  third.may_end = true;
  REQUIRE_OK(submit(third, {4, 6}).wait());  // in nobody's way
  CHECK(first.begun);
  CHECK(second.begun);
  CHECK_FALSE(after_both.begun);
  first.may_end = true;
  REQUIRE_OK(one.wait());
  Step probe;
  probe.may_end = true;
  REQUIRE_OK(submit(probe, {7}).wait());  // the loop has been round
  CHECK_FALSE(after_both.begun);
  second.may_end = after_both.may_end = true;
  REQUIRE_OK(both.wait());
  CHECK(two.finished());
}

TEST_CASE("run keeps the order too, and the time in the queue counts against no deadline") {
  Options options;
  options.timeout = std::chrono::milliseconds(300);
  World world = alone(options);
  OperationOrder order;
  // Moves, but does not end for longer than the timeout.
  class Slow final : public Task {
   public:
    Result<Advance> advance(Transport&) override {
      return Clock::now() < end_ ? Advance::moved : Advance::finished;
    }
    std::string waits_for() const override { return "slow"; }

   private:
    const TimePoint end_ = Clock::now() + std::chrono::milliseconds(700);
  };
  Step step;
  step.may_end = true;
  const Ticket slow = order.submit(world.progress(), std::make_unique<Slow>(), peers({1}));
  REQUIRE_OK(order.run(world.progress(), std::make_unique<StepTask>(step), peers({1})));
  CHECK(slow.finished());
}

}  // namespace
