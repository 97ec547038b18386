// SPDX-License-Identifier: Apache-2.0
// The transport contract with ranks as threads.
#include "tests/contract/transport_contract.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace dist::test {
namespace {

void run_lasting_cases(const std::string& transport, int ranks) {
  run_transports(transport, ranks, [](Transport& end) {
    for (const TransportCase& one : lasting_transport_cases()) {
      if (end.ranks() >= one.least_ranks) one.body(end);
      meet(end);
    }
  });
}

void run_closing_cases(const std::string& transport, int ranks) {
  for (const TransportCase& one : closing_transport_cases()) {
    if (ranks < one.least_ranks) continue;
    INFO(one.name);
    REQUIRE_NOTHROW(run_transports(transport, ranks, one.body));
  }
}

}  // namespace

TEST_CASE("ranks as threads: cases that leave the transport whole") {
  for (const auto& transport : kThreadTransports) {
    for (const int ranks : kRankCounts) {
      INFO(transport << " with " << ranks << " ranks");
      REQUIRE_NOTHROW(run_lasting_cases(transport, ranks));
    }
  }
}

TEST_CASE("ranks as threads: cases that end it") {
  for (const auto& transport : kThreadTransports) {
    for (const int ranks : kRankCounts) {
      INFO(transport << " with " << ranks << " ranks");
      run_closing_cases(transport, ranks);
    }
  }
}

TEST_CASE("ranks as threads: more ranks than cores") {
  for (const auto& transport : kThreadTransports) {
    INFO(transport);
    REQUIRE_NOTHROW(run_lasting_cases(transport, 16));
  }
}

TEST_CASE("ranks as threads: one message of more than 2 GiB", "[.huge]") {
  for (const auto& transport : kThreadTransports) {
    INFO(transport);
    REQUIRE_NOTHROW(run_transports(transport, 2, exchange_huge_messages));
  }
}

}  // namespace dist::test
