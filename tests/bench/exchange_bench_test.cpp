// SPDX-License-Identifier: Apache-2.0
// The program exchange_bench itself, on an arena too small to say anything about speed.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/support/catch.h"

namespace {

int run(const std::string& command) {
  const int status = std::system((command + " >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const std::string kBench = DIST_EXCHANGE_BENCH;
const std::string kDistrun = DIST_DISTRUN;

TEST_CASE("every mode runs and writes its record") {
  const auto path = std::filesystem::temp_directory_path() /
                    ("exchange-bench-test-" + std::to_string(getpid()) + ".jsonl");
  REQUIRE(run(kDistrun + " -n 2 -- " + kBench + " --elements 1000,70000 --rounds 2 --json " +
              path.string()) == 0);
  std::ifstream file(path);
  std::set<std::string> seen;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    CHECK(record["record"] == "exchange");
    CHECK(record["step_ms_median"].get<double>() > 0);
    seen.insert(record["mode"].get<std::string>() + record["elements"].dump());
  }
  std::filesystem::remove(path);
  CHECK(seen.size() == 12);
}

TEST_CASE("bad arguments are refused") {
  CHECK(run(kBench + " --modes nonsense") == 1);
  CHECK(run(kBench + " --rounds 0") == 1);
  CHECK(run(kBench + " --optimizer adamant") == 1);
  CHECK(run(kBench + " --help") == 0);
}

}  // namespace
