// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/contest.h"

#include <memory>

#include "tests/support/catch.h"

using namespace dist::bench;
using dist::Result;
using dist::Status;
using dist::test::Approx;

namespace {

// Answers at once with made-up times; writes down what it was asked in a log that all share.
class Fake : public Contestant {
 public:
  Fake(std::string library, double us, std::vector<std::string>* log) : us_(us), log_(log) {
    spec_.library = std::move(library);
    spec_.contest = "shm";
  }

  const JobSpec& spec() const override { return spec_; }
  Status allocate(std::uint64_t bytes) override {
    REQUIRE(buffer_ == 0);
    buffer_ = bytes;
    return note("allocate");
  }
  Status release() override {
    REQUIRE(buffer_ != 0);
    buffer_ = 0;
    return note("release");
  }
  Result<std::vector<double>> run(int warmups, int calls, bool touched) override {
    REQUIRE(warmups >= 1);
    REQUIRE(calls >= 1);
    REQUIRE(buffer_ != 0);
    if (Status status = note(touched ? "touched" : "run"); !status.ok()) return status;
    return std::vector<double>(static_cast<std::size_t>(calls), us_);
  }
  Result<std::string> check() override {
    if (Status status = note("check"); !status.ok()) return status;
    return wrong;
  }
  void end() override { ended = true; }

  std::string fails_at;  ///< word of the log
  std::string wrong;
  bool ended = false;

 private:
  Status note(const std::string& what) {
    REQUIRE_FALSE(ended);
    log_->push_back(spec_.library + " " + what);
    return what == fails_at ? Status::peer_lost("made to fail") : Status();
  }

  JobSpec spec_;
  double us_;
  std::vector<std::string>* log_;
  std::uint64_t buffer_ = 0;
};

ContestRules small_rules() {
  ContestRules rules;
  rules.bytes = {4096};
  rules.rounds = 2;
  rules.turn_ms = 1e-6;  // one call a turn
  rules.memory_bytes = 1 << 20;
  return rules;
}

std::vector<Measurement> hold(const std::vector<Contestant*>& all, const ContestRules& rules) {
  std::vector<Measurement> out;
  hold_contest(all, rules, [&](const Measurement& each) { out.push_back(each); });
  return out;
}

}  // namespace

TEST_CASE("bandwidths") {
  Measurement m;
  m.bytes = 1'000'000;
  m.time_us_median = 500;
  m.spec.ranks = 4;
  REQUIRE(algorithm_bandwidth(m) == Approx(2e9));
  REQUIRE(bus_bandwidth(m) == Approx(3e9));
  m.spec.ranks = 2;
  REQUIRE(bus_bandwidth(m) == Approx(2e9));
  m.time_us_median = 0;
  REQUIRE(bus_bandwidth(m) == 0);
}

TEST_CASE("a turn has at least one call and at most 20,000") {
  REQUIRE(calls_of_turn(50, 1000) == 50);
  REQUIRE(calls_of_turn(50, 1e9) == 1);
  REQUIRE(calls_of_turn(50, 0.001) == 20'000);
  REQUIRE(calls_of_turn(50, 0) == 20'000);
}

TEST_CASE("turns are interleaved and another one begins each round") {
  std::vector<std::string> log;
  Fake a("a", 10, &log), b("b", 20, &log), c("c", 30, &log);
  const auto measured = hold({&a, &b, &c}, small_rules());
  REQUIRE(log == std::vector<std::string>{"a allocate", "b allocate", "c allocate",  //
                                          "a run", "b run", "c run",                 // calibration
                                          "a run", "b run", "c run",                 // round 0
                                          "a run", "c run", "b run",                 // round 1
                                          "a check", "a release", "b check", "b release", "c check",
                                          "c release"});
  REQUIRE(measured.size() == 3);
  REQUIRE(measured[1].time_us_median == 20);
  REQUIRE(measured[1].time_us_min == 20);
  REQUIRE(measured[1].calls == 2);
  REQUIRE(measured[1].correct);
}

TEST_CASE("both modes of a size use one buffer") {
  std::vector<std::string> log;
  Fake a("a", 10, &log);
  ContestRules rules = small_rules();
  rules.touched = {false, true};
  rules.rounds = 1;
  const auto measured = hold({&a}, rules);
  REQUIRE(log == std::vector<std::string>{"a allocate", "a run", "a run", "a touched", "a touched",
                                          "a check", "a release"});
  REQUIRE(measured.size() == 2);
  REQUIRE_FALSE(measured[0].touched);
  REQUIRE(measured[1].touched);
}

TEST_CASE("where memory is short each turn has its own buffer") {
  std::vector<std::string> log;
  Fake a("a", 10, &log), b("b", 10, &log);
  ContestRules rules = small_rules();
  REQUIRE(memory_needed({&a, &b}, 4096) == 2 * 2 * 2 * 4096);
  rules.memory_bytes = 2 * 2 * 2 * 4096 - 1;
  rules.rounds = 1;
  hold({&a, &b}, rules);
  for (std::size_t i = 0; i < log.size(); i += 3) {
    REQUIRE(log[i].substr(2) == "allocate");
    REQUIRE(log[i + 2].substr(2) == "release");
    REQUIRE(log[i][0] == log[i + 2][0]);
  }
  REQUIRE(log.size() == 2 * 3 * 3);
}

TEST_CASE("who fails is ended at once, and the others go on") {
  for (const char* word : {"allocate", "run", "check", "release"}) {
    std::vector<std::string> log;
    Fake good("good", 10, &log), bad("bad", 20, &log);
    bad.fails_at = word;
    ContestRules rules = small_rules();
    rules.bytes = {4096, 8192};
    const auto measured = hold({&bad, &good}, rules);
    INFO(word);
    REQUIRE(bad.ended);
    REQUIRE_FALSE(good.ended);
    REQUIRE(measured.size() == 4);
    for (const Measurement& each : measured) {
      REQUIRE(each.correct == (each.spec.library == "good"));
      REQUIRE((each.failure == "made to fail") == (each.spec.library == "bad"));
    }
  }
}

TEST_CASE("a wrong sum is no failure of the job, but no result either") {
  std::vector<std::string> log;
  Fake a("a", 10, &log);
  a.wrong = "rank 1: element 3";
  const auto measured = hold({&a}, small_rules());
  REQUIRE_FALSE(a.ended);
  REQUIRE_FALSE(measured[0].correct);
  REQUIRE(measured[0].failure == "wrong sum: rank 1: element 3");
}

TEST_CASE("an interrupted contest keeps the sizes that are done") {
  std::vector<std::string> log;
  Fake a("a", 10, &log);
  ContestRules rules = small_rules();
  rules.bytes = {4096, 8192};
  rules.stop = [&] { return log.size() > 6; };
  const auto measured = hold({&a}, rules);
  REQUIRE(measured.size() == 1);
  REQUIRE(measured[0].bytes == 4096);
}
