// SPDX-License-Identifier: Apache-2.0
// The program libtorch_bench itself: every contestant trains and is reported.
#include <set>
#include <string>

#include "tests/bench/program.h"
#include "tests/support/catch.h"

namespace {

using dist::test::records_of;
using dist::test::run;

const std::string kBench = DIST_LIBTORCH_BENCH;
const std::string kDistrun = DIST_DISTRUN;

TEST_CASE("every contestant runs and writes its record") {
  std::set<std::string> seen;
  for (const auto& record : records_of(kDistrun + " -n 2 -- " + kBench, "--rounds 1")) {
    CHECK(record["record"] == "libtorch");
    CHECK(record["model"] == "resnet18");
    CHECK(record["step_ms_median"].get<double>() > 0);
    CHECK(record["libdist_share"].get<double>() > 0);
    seen.insert(record["contestant"].get<std::string>());
  }
  CHECK(seen == std::set<std::string>{"ddp", "each", "libdist", "none"});
}

TEST_CASE("bad arguments are refused") {
  CHECK(run(kBench + " --model nonsense") != 0);
  CHECK(run(kBench + " --rounds 0") != 0);
  CHECK(run(kBench + " --help") == 0);
}

}  // namespace
