// SPDX-License-Identifier: Apache-2.0
// The control protocol from the starter's side, against peers in a few lines of shell, and against
// the real server through the limit peer.
#include "bench/all_reduce/job.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"

using namespace dist::bench;
using dist::ErrorCode;

namespace {

constexpr std::chrono::seconds kLong{60};

class Place {
 public:
  Place() {
    std::string name = std::filesystem::temp_directory_path() / "dist-job-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Place() { std::filesystem::remove_all(path_); }
  std::string job() const { return path_ + "/job"; }
  std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Ranks that say they are ready and then answer each request by `answers`, cases of a shell's case.
JobSpec fake(int ranks, const std::string& answers) {
  JobSpec spec;
  spec.library = "fake";
  spec.algorithm = "default";
  spec.ranks = ranks;
  for (int r = 0; r < ranks; ++r) {
    const std::string rank = std::to_string(r);
    spec.commands.push_back(
        {{"bash", "-c",
          "rank=" + rank + "; exec 3<{control}/to_" + rank + " 4>{control}/from_" + rank +
              "; echo \"ready $rank fake 1.0\" >&4; while read -r verb a b c <&3; do case $verb "
              "in " +
              answers + " quit) exit 0;; *) echo ok >&4;; esac; done"},
         {}});
  }
  return spec;
}

JobSpec limit(const std::string& algorithm, int ranks) {
  JobSpec spec;
  spec.library = "limit";
  spec.algorithm = algorithm;
  spec.ranks = ranks;
  for (int r = 0; r < ranks; ++r) {
    spec.commands.push_back(
        {{DIST_LIMIT_PEER, "--control", "{control}", "--ranks", std::to_string(ranks), "--rank",
          std::to_string(r), "--algorithm", algorithm},
         {}});
  }
  return spec;
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("the slowest rank's time of each call counts") {
  const auto times = slowest_times_us({"times 1000 5000 2000", "times 3000 4000 2500"}, 3);
  REQUIRE_OK(times);
  REQUIRE(*times == std::vector<double>{3, 5, 2.5});
  for (const char* bad : {"times 1 2", "times 1 2 3 4", "ok", "times 1 x 3", ""}) {
    INFO(bad);
    REQUIRE_FALSE(slowest_times_us({"times 1 2 3", bad}, 3).ok());
  }
}

TEST_CASE("requests reach every rank and replies come back by rank") {
  const Place place;
  Interrupts interrupts;
  auto job = Job::start(
      fake(
          3,
          "run) echo \"times $((rank + 1))000 $((10 - rank))000\" >&4;; check) [[ $rank == 2 ]] && "
          "echo wrong element 7 >&4 || echo correct >&4;; echo) echo \"$rank $a\" >&4;;"),
      place.job(), kLong, interrupts);
  REQUIRE_OK(job);
  REQUIRE((*job)->version() == "fake 1.0");
  REQUIRE(*(*job)->ask("echo hello") == std::vector<std::string>{"0 hello", "1 hello", "2 hello"});
  REQUIRE_OK((*job)->allocate(4096));
  REQUIRE(*(*job)->run(1, 2, false) == std::vector<double>{3, 10});
  REQUIRE(*(*job)->check() == "rank 2: wrong element 7");
  REQUIRE_OK((*job)->release());
  (*job)->end();
  REQUIRE_FALSE(std::filesystem::exists(place.job()));
}

TEST_CASE("a rank that dies, is silent or complains ends the request with its story") {
  const Place place;
  Interrupts interrupts;
  const auto outcome = [&](const std::string& answer, std::chrono::seconds timeout) {
    auto job = Job::start(fake(2, "check) " + answer + ";;"), place.job(), timeout, interrupts);
    REQUIRE_OK(job);
    auto checked = (*job)->check();
    REQUIRE_FALSE(checked.ok());
    return checked.status();
  };
  const auto died =
      outcome("[[ $rank == 0 ]] && { echo last words >&2; exit 3; } || sleep 600", kLong);
  REQUIRE(died.code() == ErrorCode::peer_lost);
  REQUIRE(contains(died.message(), "exit code 3"));
  REQUIRE(contains(died.message(), "| last words"));
  const auto killed = outcome("[[ $rank == 1 ]] && kill -9 $$ || sleep 600", kLong);
  REQUIRE(contains(killed.message(), "signal 9"));
  const auto silent =
      outcome("[[ $rank == 1 ]] && sleep 600 || echo correct >&4", std::chrono::seconds(1));
  REQUIRE(silent.code() == ErrorCode::timed_out);
  REQUIRE(contains(silent.message(), "rank 1 did not answer within 1 s"));
  const auto complains = outcome("[[ $rank == 0 ]] && echo error no luck >&4 || sleep 600", kLong);
  REQUIRE(contains(complains.message(), "rank 0: no luck"));
}

TEST_CASE("programs that are not there or are no peer fail the start") {
  const Place place;
  Interrupts interrupts;
  JobSpec missing = fake(1, "");
  missing.commands[0].words = {"/nowhere/peer"};
  auto job = Job::start(missing, place.job(), kLong, interrupts);
  REQUIRE_FALSE(job.ok());
  REQUIRE(contains(job.status().message(), "cannot start /nowhere/peer"));
  JobSpec liar = fake(1, "");
  liar.commands[0].words[2] = "exec 4>{control}/from_0; echo hello >&4; sleep 600";
  job = Job::start(liar, place.job(), kLong, interrupts);
  REQUIRE_FALSE(job.ok());
  REQUIRE(contains(job.status().message(), "'hello' instead of 'ready 0'"));
}

TEST_CASE("an interruption ends the wait") {
  const Place place;
  Interrupts interrupts;
  auto job = Job::start(fake(1, "check) sleep 600;;"), place.job(), kLong, interrupts);
  REQUIRE_OK(job);
  REQUIRE(interrupts.pending() == 0);
  kill(getpid(), SIGINT);
  auto checked = (*job)->check();
  REQUIRE(checked.status().code() == ErrorCode::cancelled);
  REQUIRE(interrupts.pending() == SIGINT);
}

TEST_CASE("environment and control directory reach the processes") {
  const Place place;
  Interrupts interrupts;
  JobSpec spec = fake(1, "tell) echo \"$WORD $WHERE\" >&4;;");
  spec.commands[0].environment = {{"WORD", "yes"}, {"WHERE", "{control}/x"}};
  auto job = Job::start(spec, place.job(), kLong, interrupts);
  REQUIRE_OK(job);
  REQUIRE((*job)->ask("tell")->front() == "yes " + place.job() + "/x");
}

TEST_CASE("the real server: timed calls, and sums that are checked") {
  for (const char* algorithm : {"sweep", "memcpy"}) {
    for (const int ranks : {2, 3}) {
      const Place place;
      Interrupts interrupts;
      auto job = Job::start(limit(algorithm, ranks), place.job(), kLong, interrupts);
      REQUIRE_OK(job);
      // Prime counts of elements, several periods of the sample, less elements than ranks.
      for (const std::uint64_t elems : {9973, 1, 7}) {
        REQUIRE_OK((*job)->allocate(4 * elems));
        for (const bool touched : {false, true, false}) {
          const auto times = (*job)->run(1, 3, touched);
          REQUIRE_OK(times);
          REQUIRE(times->size() == 3);
          REQUIRE(*std::min_element(times->begin(), times->end()) > 0);
        }
        REQUIRE(*(*job)->check() == "");
        REQUIRE_OK((*job)->release());
      }
      REQUIRE_FALSE((*job)->run(1, 1, false).ok());  // no buffer
    }
  }
}
