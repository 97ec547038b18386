// SPDX-License-Identifier: Apache-2.0
// The program ps_bench itself, for moments too short to say anything about speed.
#include <string>
#include <vector>

#include "tests/bench/program.h"
#include "tests/support/catch.h"

namespace {

using dist::test::run;

const std::string kBench = DIST_PS_BENCH;
const std::string kDistrun = DIST_DISTRUN;

std::vector<nlohmann::json> records_of(const std::string& launch, const std::string& arguments) {
  return dist::test::records_of(kDistrun + " " + launch + " -- " + kBench,
                                "--seconds 0.2 " + arguments);
}

TEST_CASE("every policy runs, loses nothing and writes its record") {
  const auto records = records_of("-n 3",
                                  "--elements 50000 --compute-ms 2 --slow-worker 3 --slow-step "
                                  "--policies sync,backup,bounded:1,async");
  REQUIRE(records.size() == 4);
  for (const auto& record : records) {
    INFO(record.dump());
    CHECK(record["record"] == "ps");
    CHECK(record["kind"] == "emulated");
    CHECK(record["workers"] == 3);
    CHECK(record["placement"] == "colocated");
    CHECK(record["steps_per_second"].get<double>() > 0);
    CHECK(record["ideal_steps_per_second"].get<double>() > 0);
    CHECK(record["bytes_per_second"].get<double>() > 0);
    CHECK(record["lost"] == 0);
    CHECK(record["doubled"] == 0);
    if (record["policy"] != "backup") CHECK(record["dropped"] == 0);
  }
}

TEST_CASE("a run of so many steps a worker; the ideal is not far above it") {
  const auto records = records_of("-n 3",
                                  "--elements 1000 --compute-ms 20 --slow-step --steps 30 "
                                  "--policies sync,async");
  REQUIRE(records.size() == 2);
  for (const auto& record : records) {
    INFO(record.dump());
    CHECK(record["steps"] == 30);
    const auto rate = record["steps_per_second"].get<double>();
    const auto ideal = record["ideal_steps_per_second"].get<double>();
    CHECK(rate < ideal);
    CHECK(rate > ideal / 3);  // even on a crowded machine
    CHECK(rate * record["seconds"].get<double>() == dist::test::Approx(90));
  }
}

TEST_CASE("over TCP the limit of the link stands beside the rate") {
  const auto records = records_of(
      "-n 3", "--elements 100000 --policies sync --dist-transport=tcp --dist-placement=dedicated");
  REQUIRE(records.size() == 1);
  INFO(records.front().dump());
  CHECK(records.front()["transport"] == "tcp");
  CHECK(records.front()["workers"] == 2);
  CHECK(records.front()["servers"] == 1);
  CHECK(records.front()["limit_bytes_per_second"].get<double>() > 0);
}

TEST_CASE("bad arguments are refused") {
  CHECK(run(kBench + " --policies nonsense") == 1);
  CHECK(run(kBench + " --seconds 0") == 1);
  CHECK(run(kBench + " --policies bounded:x") == 1);
  CHECK(run(kBench + " --policies ring") == 1);
  CHECK(run(kBench + " --help") == 0);
}

}  // namespace
