// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/ideal.h"

#include "tests/support/catch.h"

using namespace dist::bench;
using dist::test::Approx;

namespace {

IdealRun ideal(const char* policy, const Delays& delays, RunLength length, int workers = 4) {
  return ideal_run(variant_named(policy).value(), delays, workers, length);
}

constexpr Delays kEven{.compute_ms = 10};
constexpr Delays kSlowWorker{.compute_ms = 10, .slow_worker = 4};
constexpr Delays kSlowSteps{.compute_ms = 40, .slow_step = true, .seed = 3};

}  // namespace

TEST_CASE("equal workers: every policy loses nothing") {
  for (const char* policy : {"sync", "bounded:1", "bounded:4", "async"}) {
    INFO(policy);
    const auto run = ideal(policy, kEven, {.steps = 50});
    CHECK(run.applied == 200);
    CHECK(run.dropped == 0);
    CHECK(run.seconds == Approx(0.5));
    CHECK(ideal(policy, kEven, {.seconds = 0.495}).applied == 200);
  }
}

TEST_CASE("one slow worker") {
  const RunLength length{.seconds = 10};
  // Three workers at 100 steps/s, one at 25.
  CHECK(ideal("async", kSlowWorker, length).steps_per_second() == Approx(325).epsilon(0.01));
  CHECK(ideal("sync", kSlowWorker, length).steps_per_second() == Approx(100).epsilon(0.01));
  // The slow one is always left out, but for what it brings in time: every fourth step.
  const auto backup = ideal("backup", kSlowWorker, length);
  CHECK(backup.steps_per_second() == Approx(300).epsilon(0.01));
  CHECK(backup.dropped == Approx(250).epsilon(0.01));
  // The slack is used up once: 4 steps of each fast worker.
  const auto bounded = ideal("bounded:4", kSlowWorker, length);
  CHECK(bounded.steps_per_second() == Approx(100 + 3 * 4 / 10.0).epsilon(0.01));
}

TEST_CASE("slow at random: the more steps ahead, the closer to async; equal steps favour bounds") {
  const auto rate = [](const char* policy, RunLength length) {
    return ideal(policy, kSlowSteps, length).steps_per_second();
  };
  const RunLength endless{.seconds = 4000};
  const double async = rate("async", endless);
  CHECK(async == Approx(4 / (0.04 * 1.4)).epsilon(0.02));  // a step takes 1.4 of 40 ms on average
  CHECK(rate("sync", endless) < rate("bounded:1", endless));
  CHECK(rate("bounded:1", endless) < rate("bounded:4", endless));
  CHECK(rate("bounded:4", endless) < rate("bounded:16", endless));
  CHECK(rate("bounded:16", endless) < async);
  CHECK(rate("bounded:4", endless) / async == Approx(0.876).margin(0.01));
  const RunLength same{.steps = 100};
  CHECK(rate("bounded:4", same) / rate("async", same) > 0.9);
}

TEST_CASE("the same seed, the same run; another seed, another one") {
  const auto seconds = [](std::uint64_t seed) {
    Delays delays = kSlowSteps;
    delays.seed = seed;
    return ideal("bounded:1", delays, {.steps = 30}).seconds;
  };
  CHECK(seconds(1) == seconds(1));
  CHECK(seconds(1) != seconds(2));
}

TEST_CASE("workers that have ended hold nobody back") {
  const auto run = ideal("backup", kSlowWorker, {.steps = 40});
  CHECK(run.applied + run.dropped == 160);
  CHECK(ideal("bounded:1", kSlowWorker, {.steps = 40}).applied == 160);
  CHECK(ideal("sync", kSlowSteps, {.steps = 1}, 1).applied == 1);
}
