// SPDX-License-Identifier: Apache-2.0
// train_cnn where workers may die and come back: the job goes on, and every worker that ends well
// reports for itself.
#include <fmt/format.h>

#include <csignal>
#include <fstream>
#include <set>

#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

// Servers stand behind the workers.
std::vector<std::string> elastic(int ranks, int restarts, const std::string& arguments) {
  auto command = train_command(ranks, arguments);
  command.insert(command.begin() + 1, {"--elastic", "1", "--restart", std::to_string(restarts)});
  return command;
}

std::vector<nlohmann::json> records_in(const std::string& path) {
  std::ifstream file(path);
  std::vector<nlohmann::json> records;
  for (std::string line; std::getline(file, line);) records.push_back(nlohmann::json::parse(line));
  return records;
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("a worker that is killed comes back and trains on; each reports for itself") {
  for (const std::string strategy : {"sync-ps", "async-ps"}) {
    INFO(strategy);
    const ScratchDirectory scratch;
    Program job(elastic(4, 1,
                        fmt::format("--model small_cnn --backend ref --batch 1 --steps 600 "
                                    "--warmup 0 --progress --strategy {} --json {}",
                                    strategy, scratch.path("r"))));
    job.wait_for("[1] step    20/");
    const auto ranks = children_of(job.pid(), "train_cnn");
    REQUIRE(ranks.size() == 4);
    ::kill(ranks[1], SIGKILL);
    const auto done = job.wait(120);
    INFO(done.out << done.err);
    CHECK(done.exit_code == 0);
    // Its second life goes on where the others are.
    CHECK(count_of(done.out, "[1] step     1/600") == 1);
    CHECK(count_of(done.out, "[1] step   600/600") == 1);
    std::set<int> reported;
    for (const auto& record : records_in(scratch.path("r"))) {
      reported.insert(record["worker"].get<int>());
      CHECK(record["workers"] == 3);
      CHECK(record["images_per_second"] > 0);
    }
    CHECK(reported == std::set<int>{0, 1, 2});
    CHECK(done.out.find("worker 2 of at most 3 workers") != std::string::npos);
  }
}

TEST_CASE("without a restart the others go on without it") {
  Program job(elastic(3, 0,
                      "--model small_cnn --backend ref --batch 1 --steps 200 --warmup 0 "
                      "--progress --strategy sync-ps"));
  job.wait_for("[1] step    20/");
  ::kill(children_of(job.pid(), "train_cnn")[0], SIGKILL);
  const auto done = job.wait(120);
  INFO(done.out << done.err);
  CHECK(done.exit_code == 0);
  CHECK(done.out.find("[1] step   200/200") != std::string::npos);
}

TEST_CASE("checkpoints of an elastic world are refused") {
  const ScratchDirectory scratch;
  const auto done =
      run_program(elastic(3, 0,
                          "--model small_cnn --backend ref --batch 1 --steps 5 --strategy sync-ps "
                          "--checkpoint " +
                              scratch.path("c")));
  INFO(done.err);
  CHECK(done.exit_code != 0);
  CHECK(done.err.find("the workers of an elastic world know servers only") != std::string::npos);
}

}  // namespace dist::test
