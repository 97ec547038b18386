// SPDX-License-Identifier: Apache-2.0
// The program exchange_bench itself, on an arena too small to say anything about speed.
#include <set>
#include <string>

#include "tests/bench/program.h"
#include "tests/support/catch.h"

namespace {

using dist::test::records_of;
using dist::test::run;

const std::string kBench = DIST_EXCHANGE_BENCH;
const std::string kDistrun = DIST_DISTRUN;

TEST_CASE("every mode runs and writes its record") {
  std::set<std::string> seen;
  for (const auto& record :
       records_of(kDistrun + " -n 2 -- " + kBench, "--elements 1000,70000 --rounds 2")) {
    CHECK(record["record"] == "exchange");
    CHECK(record["step_ms_median"].get<double>() > 0);
    seen.insert(record["mode"].get<std::string>() + record["elements"].dump());
  }
  CHECK(seen.size() == 12);
}

TEST_CASE("bad arguments are refused") {
  CHECK(run(kBench + " --modes nonsense") == 1);
  CHECK(run(kBench + " --rounds 0") == 1);
  CHECK(run(kBench + " --optimizer adamant") == 1);
  CHECK(run(kBench + " --help") == 0);
}

}  // namespace
