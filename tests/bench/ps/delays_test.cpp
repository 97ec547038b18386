// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/delays.h"

#include "tests/support/catch.h"

using dist::bench::Delays;

TEST_CASE("the last worker is slower") {
  const Delays delays{.compute_ms = 10, .slow_worker = 4};
  CHECK(delays.ms(0, 3, 0) == 10);
  CHECK(delays.ms(2, 3, 17) == 40);
}

TEST_CASE("one step in ten is slower, by seed, worker and step") {
  const Delays delays{.compute_ms = 10, .slow_step = true};
  const auto slow_steps = [&](int worker) {
    int slow = 0;
    for (std::uint64_t step = 0; step < 10'000; ++step) {
      const double ms = delays.ms(worker, 4, step);
      CHECK((ms == 10 || ms == 50));
      CHECK(ms == delays.ms(worker, 4, step));
      slow += ms == 50 ? 1 : 0;
    }
    return slow;
  };
  for (int worker = 0; worker < 4; ++worker) {
    CHECK(slow_steps(worker) > 900);
    CHECK(slow_steps(worker) < 1100);
  }
  int together = 0;
  int other_seed = 0;
  for (std::uint64_t step = 0; step < 10'000; ++step) {
    const bool slow = delays.ms(0, 4, step) == 50;
    together += slow && delays.ms(1, 4, step) == 50 ? 1 : 0;
    other_seed += slow && Delays{10, 1, true, 2}.ms(0, 4, step) == 50 ? 1 : 0;
  }
  CHECK(together < 200);  // 100 where they are independent
  CHECK(other_seed < 200);
}
