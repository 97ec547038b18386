// SPDX-License-Identifier: Apache-2.0
// Every push is applied exactly once: for every policy, number of workers and of servers, in place,
// by messages in shared memory and over tcp; over MPI in process_test.cpp, and while workers die
// and come back in membership_test.cpp. [.product]: every combination.
#include "tests/ps/oracle_case.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::test;

constexpr int kMostRanks = static_cast<int>(kOracleWorkers) + kMostOracleServers;

void run_everywhere(OracleCase chosen) {
  INFO(chosen.describe());
  const auto body = [&](World& world) { OracleRun(chosen, world).run(); };
  for (const auto& transport : kThreadTransports) {
    INFO(transport);
    REQUIRE_NOTHROW(run_ranks(transport, chosen.ranks(), body, chosen.options()));
  }
  chosen.in_place = false;
  INFO("by messages");
  REQUIRE_NOTHROW(run_ranks("shm", chosen.ranks(), body, chosen.options()));
}

TEST_CASE("every push is applied once, whatever the policy, transport and placement") {
  for (int ranks = 1; ranks <= kMostRanks; ++ranks) {
    for (const auto& chosen : some_oracle_cases(ranks, 3, static_cast<unsigned>(ranks))) {
      run_everywhere(chosen);
    }
  }
}

TEST_CASE("the product of policies, placements, 1 to 8 workers and 1 to 4 servers", "[.product]") {
  std::size_t cases = 0;
  for (int ranks = 1; ranks <= kMostRanks; ++ranks) {
    for (const auto& chosen : oracle_cases(ranks)) {
      run_everywhere(chosen);
      ++cases;
    }
  }
  // 8 x 4 dedicated, 1 + 2 + 3 + 5 x 4 colocated; a backup worker needs another worker.
  CHECK(cases == 7 * (32 + 26) - 4 - 1);
}

}  // namespace
