// SPDX-License-Identifier: Apache-2.0
// The program libtorch_bench itself: every contestant trains and is reported.
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

const std::string kBench = DIST_LIBTORCH_BENCH;
const std::string kDistrun = DIST_DISTRUN;

TEST_CASE("every contestant runs and writes its record") {
  const auto path = std::filesystem::temp_directory_path() /
                    ("libtorch-bench-test-" + std::to_string(getpid()) + ".jsonl");
  REQUIRE(run(kDistrun + " -n 2 -- " + kBench + " --rounds 1 --json " + path.string()) == 0);
  std::ifstream file(path);
  std::set<std::string> seen;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    CHECK(record["record"] == "libtorch");
    CHECK(record["model"] == "resnet18");
    CHECK(record["step_ms_median"].get<double>() > 0);
    CHECK(record["libdist_share"].get<double>() > 0);
    seen.insert(record["contestant"].get<std::string>());
  }
  std::filesystem::remove(path);
  CHECK(seen == std::set<std::string>{"ddp", "each", "libdist", "none"});
}

TEST_CASE("bad arguments are refused") {
  CHECK(run(kBench + " --model nonsense") != 0);
  CHECK(run(kBench + " --rounds 0") != 0);
  CHECK(run(kBench + " --help") == 0);
}

}  // namespace
