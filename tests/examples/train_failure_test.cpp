// SPDX-License-Identifier: Apache-2.0
// A rank is killed in the middle of a training: the job ends within five seconds, and the others
// say who is missing, in what, and what is lost.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <sstream>

#include "tests/examples/train_run.h"
#include "tests/support/catch.h"
#include "tests/support/processes.h"

namespace dist::test {
namespace {

// Whether one of the ranks' own messages names all of `words`.
bool somebody_said(const std::string& text, const std::vector<std::string>& words) {
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.find("train_cnn: error: rank ") == line.npos) continue;
    if (std::all_of(words.begin(), words.end(),
                    [&](const std::string& w) { return line.find(w) != line.npos; })) {
      return true;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("a killed rank ends the job within 5 s; the others are told within 1 s who it was") {
  for (const std::string transport : {"shm", "tcp"}) {
    for (const std::string strategy : {"ring", "sync-ps", "async-ps"}) {
      INFO(strategy << " over " << transport);
      Program job(train_command(
          3, fmt::format("--model small_cnn --backend ref --batch 4 --steps 1000000 --progress "
                         "--strategy {} --transport {}",
                         strategy, transport)));
      job.wait_for("[0] step     8/");
      const auto ranks = children_of(job.pid(), "train_cnn");
      REQUIRE(ranks.size() == 3);
      ::kill(ranks[1], SIGKILL);
      job.wait_for("train_cnn: error: rank ", 2, 1 * kSlower);
      const auto done = job.wait(5 * kSlower);  // throws when it takes longer
      INFO(done.err);
      CHECK(done.exit_code == 128 + SIGKILL);
      CHECK(done.err.find("rank 1 was killed by signal 9 (SIGKILL)") != std::string::npos);
      CHECK(somebody_said(done.err, {": step ", strategy + ": ", "rank 1"}));
      CHECK(all_gone(ranks, 0));
    }
  }
}

TEST_CASE("a killed server ends the job within 5 s; the workers name it and count what is lost") {
  for (const std::string strategy : {"sync-ps", "async-ps"}) {
    INFO(strategy);
    const ScratchDirectory scratch;
    Program job(train_command(
        3, fmt::format("--model small_cnn --backend ref --batch 4 --steps 1000000 --progress "
                       "--placement dedicated --transport tcp --strategy {} --checkpoint {} "
                       "--checkpoint-every 5",
                       strategy, scratch.path("c"))));
    job.wait_for("[0] step    18/");
    const auto ranks = children_of(job.pid(), "train_cnn");
    REQUIRE(ranks.size() == 3);
    ::kill(ranks[2], SIGKILL);
    const auto done = job.wait(5 * kSlower);
    INFO(done.err);
    CHECK(done.exit_code == 128 + SIGKILL);
    int name_it = 0;
    for (const int worker : {0, 1}) {
      const auto self = fmt::format("rank {}: ", worker);
      const bool names = somebody_said(
          done.err, {self, "server 0 (rank 2)",
                     " versions are lost, the last complete checkpoint is that of step "});
      name_it += names ? 1 : 0;
      // Unless it was agreeing with the other one, which was quicker to end.
      CHECK(
          (names || somebody_said(done.err, {self, "agreement", fmt::format("rank {}", 1 - worker),
                                             "lost: go on with --resume"})));
    }
    CHECK(name_it >= 1);
    CHECK(all_gone(ranks, 0));
  }
}

}  // namespace dist::test
