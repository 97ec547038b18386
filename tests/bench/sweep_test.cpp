// SPDX-License-Identifier: Apache-2.0
#include "bench/sweep.h"

#include <algorithm>
#include <set>
#include <string>

#include "tests/support/catch.h"

using dist::bench::Baseline;
using dist::bench::order_runs;
using dist::bench::run_name;
using dist::bench::RunSpec;

TEST_CASE("every combination runs once a repeat, with the independent baseline") {
  const auto runs = order_runs({"a", "b"}, {"ring", "sync-ps"}, {1, 2, 4}, 2, Baseline::all);
  REQUIRE(runs.size() == 2 * 3 * 3 * 2);
  std::set<std::string> names;
  for (const RunSpec& run : runs) names.insert(run_name(run));
  REQUIRE(names.size() == runs.size());
  REQUIRE(names.count("b-independent-n4-r1") == 1);
}

TEST_CASE("an explicit baseline is not run twice") {
  const auto runs = order_runs({"a"}, {"none", "ring"}, {1}, 1, Baseline::all);
  REQUIRE(runs == std::vector<RunSpec>{{"a", "none", 1, 0}, {"a", "ring", 1, 0}});
}

TEST_CASE("strategies are innermost and their order is reversed from cell to cell") {
  const auto runs = order_runs({"a"}, {"ring", "sync-ps"}, {2, 1}, 2, Baseline::all);
  const std::vector<std::string> expected = {
      "a-independent-n1-r0", "a-ring-n1-r0",        "a-sync-ps-n1-r0", "a-sync-ps-n2-r0",
      "a-ring-n2-r0",        "a-independent-n2-r0", "a-sync-ps-n1-r1", "a-ring-n1-r1",
      "a-independent-n1-r1", "a-independent-n2-r1", "a-ring-n2-r1",    "a-sync-ps-n2-r1"};
  std::vector<std::string> names;
  for (const RunSpec& run : runs) names.push_back(run_name(run));
  REQUIRE(names == expected);
}

TEST_CASE("the baseline of one rank is there even where one rank was not asked for") {
  const auto count = [](const std::vector<RunSpec>& runs, int ranks) {
    return std::count_if(runs.begin(), runs.end(), [&](const RunSpec& run) {
      return run.strategy == dist::bench::kIndependent && run.ranks == ranks;
    });
  };
  const auto first = order_runs({"a"}, {"ring"}, {2, 4}, 3, Baseline::first);
  REQUIRE(count(first, 1) == 3);
  REQUIRE(count(first, 2) == 0);
  const auto all = order_runs({"a"}, {"ring"}, {2, 4}, 3, Baseline::all);
  REQUIRE(count(all, 1) == 3);
  REQUIRE(count(all, 4) == 3);
}
