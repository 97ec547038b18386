// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/operation_table.h"

#include <deque>
#include <set>

#include "tests/support/catch.h"

namespace dist {

TEST_CASE("an operation is in flight, finished, and then forgotten with its outcome") {
  OperationTable table;
  const Operation good = table.add();
  const Operation bad = table.add();
  REQUIRE(table.in_flight() == 2);
  REQUIRE_FALSE(table.finished(good));
  table.finish(good, {});
  table.finish(bad, Status::peer_lost("rank 1 is gone"));
  REQUIRE(table.in_flight() == 0);
  REQUIRE(table.finished(good));
  REQUIRE_OK(table.take(good));
  REQUIRE(table.take(bad).message() == "rank 1 is gone");
}

TEST_CASE("ids are never used again, also where slots are") {
  OperationTable table;
  std::set<std::uint64_t> ids;
  std::deque<Operation> live;
  for (int i = 0; i < 10000; ++i) {
    live.push_back(table.add());
    REQUIRE(ids.insert(live.back().id).second);
    REQUIRE(live.back().id != 0);
    if (i % 3 != 0) {
      const Operation ended = i % 2 == 0 ? live.front() : live.back();
      table.finish(ended, {});
      REQUIRE_OK(table.take(ended));
      i % 2 == 0 ? live.pop_front() : live.pop_back();
    }
  }
  REQUIRE(table.in_flight() == live.size());
}

}  // namespace dist
