// SPDX-License-Identifier: Apache-2.0
#include "libdist/bucket/arrival_order.h"

#include <atomic>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;

TEST_CASE("all ranks get rank 0's order; what did not arrive comes last, from the back") {
  REQUIRE_NOTHROW(test::run_ranks("shm", 3, [](World& world) {
    ArrivalOrder order(5);
    if (world.rank() == 0) {
      for (const std::size_t p : {3, 1, 3}) order.note(p);
    } else {
      for (const std::size_t p : {0, 1, 2, 3, 4}) order.note(p);
    }
    auto group = make_group(world).value();
    expect(order.agree(*group).value() == std::vector<std::size_t>{3, 1, 4, 2, 0}, "the order");
  }));
}

TEST_CASE("ranks with other numbers of parameters are refused, on every rank") {
  std::atomic<int> refused{0};
  REQUIRE_NOTHROW(test::run_ranks("shm", 3, [&](World& world) {
    auto group = make_group(world).value();
    const auto agreed = ArrivalOrder(world.rank() == 1 ? 4 : 5).agree(*group);
    if (agreed.status().message().find("others have 4 to 5") != std::string::npos) ++refused;
  }));
  CHECK(refused == 3);
}

}  // namespace
