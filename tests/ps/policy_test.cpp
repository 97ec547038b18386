// SPDX-License-Identifier: Apache-2.0
#include "ps/policy.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <regex>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::ps;

Rules synchronous() { return Rules::from(Mode::sync, Options{}); }

Rules bounded(std::uint64_t staleness) {
  Options options;
  options.staleness = staleness;
  return Rules::from(Mode::async, options);
}

std::vector<int> all(int workers) {
  std::vector<int> out(static_cast<std::size_t>(workers));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

// Workers that push and pull one piece in an order chosen by chance; each ends after its own number
// of steps. Checks what every policy promises.
class Interleaving {
 public:
  Interleaving(Rules rules, int workers, unsigned seed)
      : rules_(rules), policy_(rules, workers), random_(seed) {
    for (int w = 0; w < workers; ++w) {
      workers_.push_back({std::uniform_int_distribution<std::uint64_t>(5, 30)(random_)});
    }
  }

  // Runs to the end of all workers; `on_answer(worker, policy)` sees every answered pull.
  template <typename OnAnswer>
  void run(const OnAnswer& on_answer) {
    for (int events = 0; !std::all_of(workers_.begin(), workers_.end(), ended); ++events) {
      REQUIRE(events < 100'000);  // somebody waits for ever
      const auto chosen = std::uniform_int_distribution<std::size_t>(0, workers_.size())(random_);
      if (chosen == workers_.size()) {
        if (policy_.update_ready()) apply();
      } else {
        turn(static_cast<int>(chosen), on_answer);
      }
    }
    std::uint64_t pushed = 0;
    for (const Worker& worker : workers_) pushed += worker.steps;
    REQUIRE(applied_ == pushed);
    for (std::size_t w = 0; w < workers_.size(); ++w) {
      REQUIRE(policy_.clock(static_cast<int>(w)) == workers_[w].steps);
    }
  }

  const Policy& policy() const { return policy_; }
  bool has_ended(int worker) const { return ended(workers_[static_cast<std::size_t>(worker)]); }

 private:
  struct Worker {
    std::uint64_t steps = 0;
    std::uint64_t pushed = 0;
    bool pulling = false;
    bool ended = false;
  };
  static bool ended(const Worker& worker) { return worker.ended; }

  template <typename OnAnswer>
  void turn(int w, const OnAnswer& on_answer) {
    Worker& worker = workers_[static_cast<std::size_t>(w)];
    if (worker.ended) return;
    if (worker.pulling) {
      if (!policy_.may_answer(w)) return;
      REQUIRE(policy_.clock(w) == worker.pushed);  // read your own writes
      on_answer(w, policy_);
      worker.pulling = false;
    } else if (worker.pushed == worker.steps) {
      policy_.end(w);
      worker.ended = true;
    } else {
      REQUIRE(policy_.contribute(w, worker.pushed).ok());
      // The same again, or another step, counts for nothing.
      REQUIRE(policy_.contribute(w, worker.pushed).code() == ErrorCode::protocol);
      REQUIRE(policy_.contribute(w, worker.pushed + 1).code() == ErrorCode::protocol);
      ++worker.pushed;
      worker.pulling = true;
    }
  }

  void apply() {
    const auto version = policy_.version();
    const auto taken = policy_.take_update();
    REQUIRE(policy_.version() == version + 1);
    REQUIRE(std::is_sorted(taken.begin(), taken.end()));
    applied_ += taken.size();
    for (const int w : taken) REQUIRE(workers_[static_cast<std::size_t>(w)].pulling);
    if (rules_.applies_while_replying()) {
      REQUIRE(taken.size() == 1);
      return;
    }
    // Every worker that has not ended is in it.
    for (std::size_t w = 0; w < workers_.size(); ++w) {
      const bool inside = std::binary_search(taken.begin(), taken.end(), static_cast<int>(w));
      REQUIRE((inside || workers_[w].ended));
    }
  }

  Rules rules_;
  Policy policy_;
  std::mt19937 random_;
  std::vector<Worker> workers_;
  std::uint64_t applied_ = 0;
};

TEST_CASE("synchronous: a step is applied once, when exactly its workers are in") {
  Policy policy(synchronous(), 3);
  for (std::uint64_t step = 0; step < 3; ++step) {
    REQUIRE(policy.contribute(2, step).ok());
    REQUIRE(policy.contribute(0, step).ok());
    REQUIRE(!policy.update_ready());
    REQUIRE(policy.longest_waiting() == 2);
    REQUIRE(policy.holding_back(0) == std::vector<int>{1});
    for (const int w : {0, 2}) REQUIRE(!policy.may_answer(w));
    REQUIRE(policy.contribute(1, step).ok());
    REQUIRE(policy.update_ready());
    for (const int w : all(3)) REQUIRE(!policy.may_answer(w));
    REQUIRE(policy.take_update() == all(3));
    REQUIRE(policy.version() == step + 1);
    for (const int w : all(3)) REQUIRE(policy.may_answer(w));
  }
}

TEST_CASE("synchronous: a duplicate does not stand for a missing worker") {
  Policy policy(synchronous(), 2);
  REQUIRE(policy.contribute(0, 0).ok());
  const Status again = policy.contribute(0, 0);
  REQUIRE(again.code() == ErrorCode::protocol);
  REQUIRE(again.message().find("worker 0") != std::string::npos);
  REQUIRE(policy.contribute(0, 1).code() == ErrorCode::protocol);
  REQUIRE(!policy.update_ready());
  REQUIRE(policy.contribute(1, 0).ok());
  REQUIRE(policy.take_update() == all(2));
  REQUIRE(policy.contribute(0, 0).code() == ErrorCode::protocol);
  REQUIRE(policy.contribute(0, 2).code() == ErrorCode::protocol);
  REQUIRE(policy.contribute(0, 1).ok());
}

TEST_CASE("a worker that has ended holds nobody back and may not come again") {
  Policy policy(synchronous(), 3);
  REQUIRE(policy.contribute(0, 0).ok());
  REQUIRE(policy.contribute(1, 0).ok());
  policy.end(2);
  REQUIRE(policy.take_update() == std::vector<int>{0, 1});
  REQUIRE(policy.contribute(2, 0).code() == ErrorCode::protocol);
  policy.end(0);
  REQUIRE(policy.contribute(1, 1).ok());
  REQUIRE(policy.take_update() == std::vector<int>{1});
}

TEST_CASE("unlimited: every contribution is applied alone, in its turn, and nobody waits") {
  Policy policy(bounded(kUnlimitedStaleness), 3);
  for (std::uint64_t step = 0; step < 100; ++step) {
    REQUIRE(policy.contribute(1, step).ok());
    REQUIRE(!policy.may_answer(1));
    REQUIRE(policy.take_update() == std::vector<int>{1});
    REQUIRE(policy.may_answer(1));
    REQUIRE(policy.holding_back(1).empty());
  }
  REQUIRE(policy.contribute(2, 0).ok());
  REQUIRE(policy.contribute(0, 0).ok());
  REQUIRE(policy.take_update() == std::vector<int>{2});
  REQUIRE(policy.take_update() == std::vector<int>{0});
  REQUIRE(policy.version() == 102);
}

TEST_CASE("bounded: a worker is answered while it is at most s steps ahead of the slowest") {
  Policy policy(bounded(2), 3);
  const auto push = [&](int worker, std::uint64_t step) {
    REQUIRE(policy.contribute(worker, step).ok());
    REQUIRE(policy.take_update() == std::vector<int>{worker});
  };
  push(0, 0);
  push(0, 1);
  REQUIRE(policy.may_answer(0));
  push(0, 2);
  REQUIRE(!policy.may_answer(0));
  REQUIRE(policy.holding_back(0) == std::vector<int>{1, 2});
  push(1, 0);
  REQUIRE(policy.holding_back(0) == std::vector<int>{2});
  REQUIRE(policy.may_answer(1));
  policy.end(2);
  REQUIRE(policy.may_answer(0));
}

TEST_CASE("no interleaving breaks a promise or leaves somebody waiting") {
  for (int workers = 1; workers <= 5; ++workers) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      INFO(workers << " workers, seed " << seed);
      Interleaving(synchronous(), workers, seed).run([](int worker, const Policy& policy) {
        REQUIRE(policy.version() == policy.clock(worker));
      });
      Interleaving free(bounded(kUnlimitedStaleness), workers, seed);
      free.run([](int, const Policy&) {});
      std::uint64_t pushes = 0;
      for (const int w : all(workers)) pushes += free.policy().clock(w);
      REQUIRE(free.policy().version() == pushes);
    }
  }
}

TEST_CASE("the staleness bound holds at every answer, whatever the interleaving") {
  for (const std::uint64_t bound : {0, 1, 4}) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      Interleaving interleaving(bounded(bound), 4, seed);
      interleaving.run([&](int worker, const Policy& policy) {
        for (const int other : all(4)) {
          if (interleaving.has_ended(other)) continue;
          REQUIRE(policy.clock(worker) <= policy.clock(other) + bound);
        }
      });
    }
  }
}

TEST_CASE("staleness 0 decides exactly as synchronous does") {
  for (unsigned seed = 0; seed < 50; ++seed) {
    Policy one(synchronous(), 4);
    Policy other(bounded(0), 4);
    std::mt19937 random(seed);
    for (int event = 0; event < 2000; ++event) {
      const int worker = std::uniform_int_distribution<int>(0, 3)(random);
      const auto kind = std::uniform_int_distribution<int>(0, 200)(random);
      if (kind == 0 && event > 1000) {
        one.end(worker);
        other.end(worker);
      } else if (kind < 120) {
        const auto step = one.clock(worker) + (kind < 10 ? 1 : 0);
        REQUIRE(one.contribute(worker, step).code() == other.contribute(worker, step).code());
      } else {
        REQUIRE(one.update_ready() == other.update_ready());
        if (one.update_ready()) REQUIRE(one.take_update() == other.take_update());
      }
      REQUIRE(one.may_answer(worker) == other.may_answer(worker));
      REQUIRE(one.version() == other.version());
    }
    REQUIRE(one.version() > 50);
  }
}

TEST_CASE("rules know their names, and whether staleness means anything") {
  REQUIRE(synchronous().strategy_name == "sync-ps");
  REQUIRE(bounded(3).strategy_name == "async-ps");
  REQUIRE(!synchronous().reports_staleness);
  REQUIRE(bounded(0).reports_staleness);
  REQUIRE(bounded(1).describe() != bounded(2).describe());
  REQUIRE(synchronous().describe() != bounded(0).describe());
}

// Code without its comments.
std::string code_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string code;
  for (std::string line; std::getline(file, line);) code += line.substr(0, line.find("//")) + "\n";
  return code;
}

TEST_CASE("no other file of ps/ knows how the policies differ") {
  const std::regex telling(
      R"(\bMode::|\bsync\b|\basync\b|synchronous|steps_ahead|kUnlimitedStaleness|[.>]staleness\s*[=!<>]=)");
  std::size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(DIST_SOURCE_DIR) / "ps")) {
    const auto extension = entry.path().extension();
    if (extension != ".h" && extension != ".cpp") continue;
    const auto code = code_of(entry.path());
    INFO(entry.path().string());
    std::smatch match;
    const bool tells = std::regex_search(code, match, telling);
    INFO("says: " << (tells ? match.str() : ""));
    if (entry.path().stem() == "policy") {
      REQUIRE(tells);
    } else {
      REQUIRE(!tells);
      ++files;
    }
  }
  REQUIRE(files >= 15);
}

}  // namespace
