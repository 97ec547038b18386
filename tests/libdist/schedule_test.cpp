// SPDX-License-Identifier: Apache-2.0
#include "libdist/schedule.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using test::Approx;

TEST_CASE("a constant schedule is 1") {
  CHECK(rate_factor({}, 0) == 1);
  CHECK(rate_factor({}, 1'000'000) == 1);
}

TEST_CASE("step decay multiplies once an interval") {
  const Schedule schedule{StepDecay{.interval_steps = 3, .factor = 0.5}};
  CHECK(rate_factor(schedule, 2) == 1);
  CHECK(rate_factor(schedule, 3) == 0.5);
  CHECK(rate_factor(schedule, 5) == 0.5);
  CHECK(rate_factor(schedule, 6) == 0.25);
}

TEST_CASE("cosine decay goes from 1 to its floor and stays there") {
  const Schedule schedule{CosineDecay{.total_steps = 8, .floor = 0.25}};
  CHECK(rate_factor(schedule, 0) == 1);
  CHECK(rate_factor(schedule, 4) == Approx(0.625).epsilon(1e-15));  // half-way
  CHECK(rate_factor(schedule, 2) == Approx(0.25 + 0.375 * (1 + std::sqrt(0.5))).epsilon(1e-15));
  CHECK(rate_factor(schedule, 8) == 0.25);
  CHECK(rate_factor(schedule, 9) == 0.25);
}

TEST_CASE("warm-up is linear, ends at the full rate, and the cosine follows it") {
  const Schedule constant{.warmup_steps = 4};
  CHECK(rate_factor(constant, 0) == 0.25);
  CHECK(rate_factor(constant, 3) == 1);
  CHECK(rate_factor(constant, 4) == 1);
  const Schedule cosine{CosineDecay{.total_steps = 12}, 4};
  CHECK(rate_factor(cosine, 0) == 0.25);
  CHECK(rate_factor(cosine, 4) == 1);
  CHECK(rate_factor(cosine, 8) == Approx(0.5).epsilon(1e-15));
  CHECK(rate_factor(cosine, 12) == 0);
  const Schedule step{StepDecay{.interval_steps = 2, .factor = 0.5}, 4};
  CHECK(rate_factor(step, 2) == 0.375);  // both: 3/4 of 1/2
}

TEST_CASE("schedules that cannot be are refused") {
  CHECK(!validate(Schedule{StepDecay{.interval_steps = 0}}).ok());
  CHECK(!validate(Schedule{StepDecay{.factor = std::numeric_limits<double>::infinity()}}).ok());
  const Status refused = validate(Schedule{CosineDecay{.total_steps = 5}, 5});
  CHECK(refused.code() == ErrorCode::invalid_argument);
  CHECK(refused.message().find("schedule cosine: 5 steps, 5 of them warm-up") == 0);
  REQUIRE_OK(validate(Schedule{CosineDecay{.total_steps = 6}, 5}));
  REQUIRE_OK(validate(Schedule{}));
}

TEST_CASE("a description tells schedules apart") {
  CHECK(describe(Schedule{}) == "constant");
  CHECK(describe(Schedule{StepDecay{30, 0.1}, 5}) ==
        "step (interval_steps 30, factor 0.1), warm-up 5 steps");
  CHECK(describe(Schedule{CosineDecay{90, 0}}) == "cosine (total_steps 90, floor 0)");
}

}  // namespace
