// SPDX-License-Identifier: Apache-2.0
// The program all_reduce_bench itself, with libdist, the limit and whatever peers were built.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/support/catch.h"

namespace {

namespace fs = std::filesystem;

struct Outcome {
  int exit_code = 0;
  std::string output;
  std::vector<nlohmann::json> records;
};

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

Outcome bench(const std::string& arguments, const std::string& before = "") {
  std::string directory = fs::temp_directory_path() / "dist-arb-XXXXXX";
  REQUIRE(mkdtemp(directory.data()) != nullptr);
  const std::string line = before + " " DIST_ALL_REDUCE_BENCH " " + arguments + " --json " +
                           directory + "/records > " + directory + "/log 2>&1";
  const int status = std::system(line.c_str());
  Outcome out{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
              text_of(directory + "/log"),
              {}};
  std::ifstream records(directory + "/records");
  for (std::string record; std::getline(records, record);) {
    out.records.push_back(nlohmann::json::parse(record));
  }
  fs::remove_all(directory);
  return out;
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

int leftovers() {
  int count = 0;
  for (const auto& each : fs::directory_iterator("/dev/shm")) {
    if (each.path().filename().string().rfind("all_reduce_bench-", 0) == 0) ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("libdist, the limit and the peers that were built agree on the sums") {
  const Outcome outcome = bench("--ranks 2,3 --bytes 4,65540 --rounds 1 --turn-ms 1 --tuned");
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 0);
  std::set<std::string> libraries;
  for (const auto& record : outcome.records) {
    REQUIRE(record["record"] == "all_reduce");
    REQUIRE(record["correct"] == true);
    REQUIRE(record["time_us_median"].get<double>() > 0);
    REQUIRE(record["provenance"].contains("cpu"));
    REQUIRE_FALSE(record["version"].get<std::string>().empty());
    libraries.insert(record["library"].get<std::string>());
  }
  for (const char* library : {"libdist", "limit"}) REQUIRE(libraries.count(library) == 1);
  for (const char* library : {"openmpi", "mpich", "gloo"}) {
    INFO(library);
    const bool missing =
        contains(outcome.output, std::string("missing: ") + library + ": not built");
    REQUIRE((libraries.count(library) == 1) != missing);
  }
  REQUIRE(contains(outcome.output, "| where"));
  REQUIRE(contains(outcome.output, "bus bandwidth = algorithm bandwidth x 2 (ranks - 1) / ranks"));
}

TEST_CASE("an interruption ends all processes and removes what they left") {
  const int before = leftovers();
  const Outcome outcome =
      bench("--ranks 2 --bytes 4M --rounds 100000", "timeout --preserve-status --signal INT 3");
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 130);
  REQUIRE(leftovers() == before);
}

TEST_CASE("bad arguments are refused before anything starts") {
  REQUIRE(bench("--ranks 1").exit_code == 1);
  REQUIRE(bench("--bytes 5").exit_code == 1);
  REQUIRE(bench("--peers nobody").exit_code == 1);
}
