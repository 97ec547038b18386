// SPDX-License-Identifier: Apache-2.0
// The program ps_bench itself, for moments too short to say anything about speed.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace {

int run(const std::string& command) {
  const int status = std::system((command + " >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const std::string kBench = DIST_PS_BENCH;
const std::string kDistrun = DIST_DISTRUN;

std::vector<nlohmann::json> records_of(const std::string& before, const std::string& after) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("ps-bench-test-" + std::to_string(getpid()) + ".jsonl");
  REQUIRE(run(kDistrun + " " + before + " -- " + kBench + " --seconds 0.2 --json " + path.string() +
              " " + after) == 0);
  std::vector<nlohmann::json> records;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) records.push_back(nlohmann::json::parse(line));
  std::filesystem::remove(path);
  return records;
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
    CHECK(record["bytes_per_second"].get<double>() > 0);
    CHECK(record["lost"] == 0);
    CHECK(record["doubled"] == 0);
    if (record["policy"] != "backup") CHECK(record["dropped"] == 0);
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
  CHECK(run(kBench + " --help") == 0);
}

}  // namespace
