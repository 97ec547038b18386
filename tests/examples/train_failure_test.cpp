// SPDX-License-Identifier: Apache-2.0
// A rank is killed in the middle of a training: the job ends within five seconds, and somebody says
// who is missing and in what.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <sstream>

#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

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

TEST_CASE("a killed rank ends the job within 5 s; the message names rank and operation") {
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
      const auto done = job.wait(5);  // throws when it takes longer
      INFO(done.err);
      CHECK(done.exit_code == 128 + SIGKILL);
      CHECK(done.err.find("rank 1 was killed by signal 9 (SIGKILL)") != std::string::npos);
      CHECK(somebody_said(done.err, {": step ", strategy + ": ", "rank 1"}));
      CHECK(all_gone(ranks, 0));
    }
  }
}

}  // namespace dist::test
