// SPDX-License-Identifier: Apache-2.0
// train_cnn where workers may die and come back: the job goes on, and every worker that ends well
// reports for itself.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "libdist/types.h"
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

// In the newest complete checkpoint; 0: there is none.
int newest_step(const std::string& directory) {
  int newest = 0;
  std::error_code none_yet;
  for (const auto& entry : std::filesystem::directory_iterator(directory, none_yet)) {
    int step = 0;
    const auto name = entry.path().filename().string();
    if (std::sscanf(name.c_str(), "step-%d", &step) == 1) newest = std::max(newest, step);
  }
  return newest;
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

TEST_CASE("a worker that is told to stop does, and the others go on") {
  const ScratchDirectory scratch;
  Program job(elastic(3, 0,
                      "--model small_cnn --backend ref --batch 1 --steps 200 --warmup 0 "
                      "--progress --strategy async-ps --checkpoint " +
                          scratch.path("c")));
  job.wait_for("[0] step    20/");
  ::kill(children_of(job.pid(), "train_cnn")[0], SIGTERM);
  const auto done = job.wait(120);
  INFO(done.out << done.err);
  CHECK(done.exit_code == 0);
  CHECK(done.err.find("stopped by SIGTERM after ") != std::string::npos);
  CHECK(done.err.find("which are saved") == std::string::npos);
  CHECK(done.out.find("[1] step   200/200") != std::string::npos);
  CHECK(newest_step(scratch.path("c")) == 200);
}

TEST_CASE("a job that lost a worker and then its server resumes with other workers") {
  const ScratchDirectory scratch;
  const auto run = [&](const std::string& strategy, int steps) {
    return fmt::format(
        "--model small_cnn --backend ref --batch 1 --warmup 0 --progress --strategy {} "
        "--checkpoint {} --checkpoint-every 10 --steps {} ",
        strategy, scratch.path("c"), steps);
  };
  {
    Program job(elastic(4, 0, run("async-ps", 100'000)));
    job.wait_for("[1] step    20/");
    const auto ranks = children_of(job.pid(), "train_cnn");
    REQUIRE(ranks.size() == 4);
    ::kill(ranks[0], SIGKILL);
    const auto limit = Clock::now() + std::chrono::seconds(60);
    const auto kept = newest_step(scratch.path("c"));
    while (newest_step(scratch.path("c")) < kept + 40 && Clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(ranks[3], SIGKILL);
    const auto done = job.wait(60);
    INFO(done.err);
    CHECK(done.exit_code != 0);
    CHECK(done.err.find("; the newest complete checkpoint holds ") != std::string::npos);
    CHECK(done.err.find(" are lost: go on with --resume") != std::string::npos);
  }
  const auto kept = newest_step(scratch.path("c"));
  REQUIRE(kept >= 40);
  const auto resumed = run_program(elastic(3, 0, run("sync-ps", kept + 15) + "--resume"));
  INFO(resumed.out << resumed.err);
  CHECK(resumed.exit_code == 0);
  CHECK(count_of(resumed.out, fmt::format("[2] resumed at step {} (version ", kept)) == 1);
  for (const int worker : {0, 1}) {
    CHECK(count_of(resumed.out, fmt::format("[{}] step {:>5}/", worker, kept)) == 0);
    CHECK(count_of(resumed.out, fmt::format("[{}] step {:>5}/", worker, kept + 15)) == 1);
  }
  CHECK(newest_step(scratch.path("c")) == kept + 15);
}

TEST_CASE("a checkpoint of another seed is refused by the servers, and the job ends") {
  const ScratchDirectory scratch;
  const auto arguments =
      "--model small_cnn --backend ref --batch 1 --warmup 0 --steps 3 --strategy sync-ps "
      "--checkpoint " +
      scratch.path("c");
  CHECK(run_program(elastic(3, 0, arguments)).exit_code == 0);
  const auto other = run_program(elastic(3, 0, arguments + " --resume --seed 2"));
  CHECK(other.exit_code != 0);
  CHECK(count_of(other.err, "is of a run with seed 1, this one has 2") == 1);
}

}  // namespace dist::test
