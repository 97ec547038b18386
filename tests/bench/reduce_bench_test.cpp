// SPDX-License-Identifier: Apache-2.0
// The program `reduce_bench` itself, on buffers too small to say anything about speed.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "libdist/memory/instruction_set.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace {

using dist::test::Approx;
using dist::test::ScratchFolder;

struct Outcome {
  int exit_code = 0;
  std::string output;
};

Outcome reduce_bench(const ScratchFolder& directory, const std::string& arguments) {
  const std::string log = directory.path("log");
  const std::string line = std::string(DIST_REDUCE_BENCH) + " " + arguments + " >" + log + " 2>&1";
  const int status = std::system(line.c_str());
  std::ostringstream text;
  text << std::ifstream(log).rdbuf();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text.str()};
}

std::vector<nlohmann::json> records(const std::string& path) {
  std::vector<nlohmann::json> found;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) found.push_back(nlohmann::json::parse(line));
  return found;
}

constexpr const char* kQuick = "--rounds 2 --turn-ms 0.1 --bytes 1000,8192 --json ";

TEST_CASE("a record for every type, count of sources and outs, size and path, with its formula") {
  const ScratchFolder directory;
  const std::string json = directory.path("json");
  const auto run =
      reduce_bench(directory, kQuick + json + " --types f32,f16,i64 --sources 2,5 --outs 1,3");
  INFO(run.output);
  REQUIRE(run.exit_code == 0);
  const auto lines = records(json);
  const std::size_t paths = 1 + dist::usable_instruction_sets().size();  // memcpy
  REQUIRE(lines.size() == 3 * 2 * 2 * 2 * paths);
  for (const auto& line : lines) {
    INFO(line.dump());
    CHECK(line["record"] == "reduce");
    CHECK(line["kind"] == "measured");
    const auto buffers = line["path"] == "memcpy" ? 2
                                                  : line["sources"].get<std::uint64_t>() +
                                                        line["outs"].get<std::uint64_t>();
    CHECK(line["bytes_moved"] == buffers * line["bytes"].get<std::uint64_t>());
    CHECK(line["time_us_min"].get<double>() > 0);
    CHECK(line["time_us_min"] <= line["time_us_median"]);
    CHECK(line["bandwidth"].get<double>() ==
          Approx(line["bytes_moved"].get<double>() / line["time_us_median"].get<double>() * 1e6));
    CHECK(line["provenance"].contains("cpu"));
  }
}

TEST_CASE("the fused sweep counts parameters and velocity twice") {
  const ScratchFolder directory;
  const std::string json = directory.path("json");
  const auto run = reduce_bench(directory, kQuick + json + " --fused --paths portable");
  INFO(run.output);
  REQUIRE(run.exit_code == 0);
  const auto lines = records(json);
  REQUIRE(lines.size() == 2);
  CHECK(lines[1]["operation"] == "fused");
  CHECK(lines[1]["bytes_moved"] == (2 + 4) * 8192);
}

TEST_CASE("help and errors") {
  const ScratchFolder directory;
  const auto help = reduce_bench(directory, "--help");
  CHECK(help.exit_code == 0);
  CHECK(help.output.find("GB/s = bytes x buffers / median time") != std::string::npos);
  const auto type = reduce_bench(directory, "--types f8");
  CHECK(type.exit_code == 1);
  CHECK(type.output.find("bf16") != std::string::npos);  // the valid ones are listed
  const auto fused = reduce_bench(directory, "--types i32 --fused");
  CHECK(fused.exit_code == 1);
  CHECK(fused.output.find("f32 and f64 only") != std::string::npos);
  const auto json = reduce_bench(directory, "--bytes 64 --rounds 1 --json /nowhere/x.jsonl");
  CHECK(json.exit_code == 1);
  CHECK(json.output.find("/nowhere/x.jsonl") != std::string::npos);
}

}  // namespace
