// SPDX-License-Identifier: Apache-2.0
#include "ps/arrivals.h"

#include <thread>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using dist::ps::Arrivals;

TEST_CASE("a range is here when all of its pieces are") {
  Arrivals arrivals(4);
  REQUIRE(arrivals.wait_until(2, 2, TimePoint()));
  REQUIRE(!arrivals.wait_until(1, 3, TimePoint()));
  arrivals.arrived(1, 7);
  REQUIRE(!arrivals.wait_until(1, 3, TimePoint()));
  arrivals.arrived(2, 3);
  REQUIRE(arrivals.wait_until(1, 3, TimePoint()));
  REQUIRE(!arrivals.wait_until(0, 4, TimePoint()));
  REQUIRE(arrivals.staleness() == 7);
  arrivals.begin_step();
  REQUIRE(!arrivals.wait_until(1, 2, TimePoint()));
  REQUIRE(arrivals.staleness() == 0);
}

TEST_CASE("who waits is woken") {
  Arrivals arrivals(1);
  std::thread other([&] { arrivals.arrived(0, 0); });
  REQUIRE(arrivals.wait_until(0, 1, Clock::now() + std::chrono::seconds(60)));
  other.join();
}

}  // namespace
