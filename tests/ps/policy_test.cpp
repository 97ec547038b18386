// SPDX-License-Identifier: Apache-2.0
#include "ps/policy.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
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
    REQUIRE(applied_ + policy_.dropped() == pushed);
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
      if (!policy_.may_answer(w, worker.pushed)) return;
      REQUIRE(policy_.clock(w) == worker.pushed);  // read your own writes
      on_answer(w, policy_);
      policy_.give(w);
      worker.pulling = false;
    } else if (worker.pushed == worker.steps) {
      policy_.end(w);
      worker.ended = true;
    } else {
      REQUIRE_OK(policy_.contribute(w, worker.pushed));
      // The same again, or another step, counts for nothing.
      REQUIRE(policy_.contribute(w, worker.pushed).status().code() == ErrorCode::protocol);
      REQUIRE(policy_.contribute(w, worker.pushed + 2).status().code() == ErrorCode::protocol);
      ++worker.pushed;
      worker.pulling = true;
    }
  }

  void apply() {
    const auto version = policy_.version();
    const auto update = policy_.take_update();
    const auto& taken = update.applied;
    REQUIRE(policy_.version() == version + 1);
    REQUIRE(std::is_sorted(taken.begin(), taken.end()));
    applied_ += taken.size();
    for (const int w : taken) REQUIRE(workers_[static_cast<std::size_t>(w)].pulling);
    if (!rules_.together()) {
      REQUIRE(taken.size() == 1);
      return;
    }
    // Every worker that has not ended is in it, but for the backups; nobody twice, none unheard of.
    const auto active = std::count_if(workers_.begin(), workers_.end(),
                                      [](const Worker& worker) { return !worker.ended; });
    REQUIRE(static_cast<int>(taken.size()) ==
            std::max(static_cast<int>(active) - rules_.backup_workers, 1));
    REQUIRE(std::adjacent_find(taken.begin(), taken.end()) == taken.end());
    for (std::size_t w = 0; w < workers_.size(); ++w) {
      const bool inside = std::binary_search(taken.begin(), taken.end(), static_cast<int>(w));
      REQUIRE((inside || workers_[w].ended || rules_.backup_workers > 0));
      // All of them computed from the version that is updated.
      REQUIRE(
          (!inside || rules_.backup_workers == 0 || policy_.given(static_cast<int>(w)) == version));
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
    REQUIRE_OK(policy.contribute(2, step));
    REQUIRE_OK(policy.contribute(0, step));
    REQUIRE(!policy.update_ready());
    REQUIRE(policy.longest_waiting() == 2);
    REQUIRE(policy.holding_back(0) == std::vector<int>{1});
    for (const int w : {0, 2}) REQUIRE(!policy.may_answer(w, step + 1));
    REQUIRE_OK(policy.contribute(1, step));
    REQUIRE(policy.update_ready());
    for (const int w : all(3)) REQUIRE(!policy.may_answer(w, step + 1));
    REQUIRE(policy.take_update().applied == all(3));
    REQUIRE(policy.version() == step + 1);
    for (const int w : all(3)) REQUIRE(policy.may_answer(w, step + 1));
  }
}

TEST_CASE("synchronous: a duplicate does not stand for a missing worker") {
  Policy policy(synchronous(), 2);
  REQUIRE_OK(policy.contribute(0, 0));
  const Status again = policy.contribute(0, 0).status();
  REQUIRE(again.code() == ErrorCode::protocol);
  REQUIRE(again.message().find("worker 0") != std::string::npos);
  REQUIRE(policy.contribute(0, 1).status().code() == ErrorCode::protocol);
  REQUIRE(!policy.update_ready());
  REQUIRE_OK(policy.contribute(1, 0));
  REQUIRE(policy.take_update().applied == all(2));
  REQUIRE(policy.contribute(0, 0).status().code() == ErrorCode::protocol);
  REQUIRE(policy.contribute(0, 2).status().code() == ErrorCode::protocol);
  REQUIRE_OK(policy.contribute(0, 1));
}

TEST_CASE("a worker that has ended holds nobody back and may not come again") {
  Policy policy(synchronous(), 3);
  REQUIRE_OK(policy.contribute(0, 0));
  REQUIRE_OK(policy.contribute(1, 0));
  policy.end(2);
  REQUIRE(policy.take_update().applied == std::vector<int>{0, 1});
  REQUIRE(policy.contribute(2, 0).status().code() == ErrorCode::protocol);
  policy.end(0);
  REQUIRE_OK(policy.contribute(1, 1));
  REQUIRE(policy.take_update().applied == std::vector<int>{1});
}

TEST_CASE("unlimited: every contribution is applied alone, in its turn, and nobody waits") {
  Policy policy(bounded(kUnlimitedStaleness), 3);
  for (std::uint64_t step = 0; step < 100; ++step) {
    REQUIRE_OK(policy.contribute(1, step));
    REQUIRE(!policy.may_answer(1, step + 1));
    REQUIRE(policy.take_update().applied == std::vector<int>{1});
    REQUIRE(policy.may_answer(1, policy.clock(1)));
    REQUIRE(policy.holding_back(1).empty());
  }
  REQUIRE_OK(policy.contribute(2, 0));
  REQUIRE_OK(policy.contribute(0, 0));
  REQUIRE(policy.take_update().applied == std::vector<int>{2});
  REQUIRE(policy.take_update().applied == std::vector<int>{0});
  REQUIRE(policy.version() == 102);
}

TEST_CASE("bounded: a worker is answered while it is at most s steps ahead of the slowest") {
  Policy policy(bounded(2), 3);
  const auto push = [&](int worker, std::uint64_t step) {
    REQUIRE_OK(policy.contribute(worker, step));
    REQUIRE(policy.take_update().applied == std::vector<int>{worker});
  };
  push(0, 0);
  push(0, 1);
  REQUIRE(policy.may_answer(0, policy.clock(0)));
  push(0, 2);
  REQUIRE(!policy.may_answer(0, policy.clock(0)));
  REQUIRE(policy.holding_back(0) == std::vector<int>{1, 2});
  push(1, 0);
  REQUIRE(policy.holding_back(0) == std::vector<int>{2});
  REQUIRE(policy.may_answer(1, policy.clock(1)));
  policy.end(2);
  REQUIRE(policy.may_answer(0, policy.clock(0)));
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
        REQUIRE(one.contribute(worker, step).status().code() ==
                other.contribute(worker, step).status().code());
      } else {
        REQUIRE(one.update_ready() == other.update_ready());
        if (one.update_ready()) REQUIRE(one.take_update().applied == other.take_update().applied);
      }
      for (const auto steps : {one.clock(worker), one.clock(worker) + 1}) {
        REQUIRE(one.may_answer(worker, steps) == other.may_answer(worker, steps));
      }
      REQUIRE(one.version() == other.version());
    }
    REQUIRE(one.version() > 50);
  }
}

Rules with_backups(int backups) {
  Options options;
  options.backup_workers = backups;
  return Rules::from(Mode::sync, options);
}

TEST_CASE("backup workers: the first W - k make a step, who is late goes on at the newest one") {
  Policy policy(with_backups(1), 3);
  const auto give_all = [&] {
    for (const int w : all(3)) policy.give(w);
  };
  give_all();
  REQUIRE(policy.contribute(2, 0).value() == Policy::Verdict::waits);
  REQUIRE(!policy.update_ready());
  REQUIRE(policy.contribute(0, 0).value() == Policy::Verdict::waits);
  REQUIRE(policy.update_ready());
  REQUIRE(policy.take_update().applied == std::vector<int>{0, 2});
  policy.give(0);
  policy.give(2);
  for (const int w : {2, 0}) REQUIRE_OK(policy.contribute(w, 1));
  REQUIRE(policy.take_update().applied == std::vector<int>{0, 2});
  // Worker 1's first gradient is two versions late.
  REQUIRE(policy.contribute(1, 0).value() == Policy::Verdict::dropped);
  REQUIRE(policy.contribute(1, 0).status().code() == ErrorCode::protocol);
  REQUIRE(policy.dropped() == 1);
  REQUIRE(policy.doubled() == 1);
  REQUIRE(policy.clock(1) == 1);
  REQUIRE(policy.may_answer(1, 1));
  give_all();
  REQUIRE(policy.given(1) == 2);
  REQUIRE(policy.contribute(1, 1).value() == Policy::Verdict::waits);
  REQUIRE(policy.contribute(0, 2).value() == Policy::Verdict::waits);
  REQUIRE(policy.contribute(2, 2).value() == Policy::Verdict::waits);
  // All three have come before anybody looked: still the first two.
  const auto update = policy.take_update();
  REQUIRE(update.applied == std::vector<int>{0, 1});
  REQUIRE(update.dropped == std::vector<int>{2});
  REQUIRE(policy.version() == 3);
  REQUIRE(policy.dropped() == 2);
  for (const auto& [worker, clock] : {std::pair(0, 3u), {1, 2u}, {2, 3u}}) {
    REQUIRE(policy.clock(worker) == clock);
    REQUIRE(policy.may_answer(worker, clock));
  }
}

TEST_CASE(
    "backup workers: who has ended is no backup, and the last one is never dropped for good") {
  Policy policy(with_backups(1), 3);
  policy.end(1);
  policy.give(0);
  policy.give(2);
  REQUIRE_OK(policy.contribute(2, 0));
  REQUIRE(policy.update_ready());
  REQUIRE(policy.take_update().applied == std::vector<int>{2});
  policy.end(2);
  REQUIRE(policy.contribute(0, 0).value() == Policy::Verdict::dropped);
  policy.give(0);
  REQUIRE(policy.contribute(0, 1).value() == Policy::Verdict::waits);
  REQUIRE(policy.take_update().applied == std::vector<int>{0});
}

TEST_CASE("backup workers: no interleaving loses, doubles or waits for ever") {
  for (int workers = 2; workers <= 5; ++workers) {
    for (int backups = 1; backups < workers; ++backups) {
      for (unsigned seed = 0; seed < 20; ++seed) {
        INFO(workers << " workers, " << backups << " backups, seed " << seed);
        Interleaving interleaving(with_backups(backups), workers, seed);
        interleaving.run([](int, const Policy&) {});
      }
    }
  }
}

TEST_CASE("rules that contradict each other are refused, with what is valid") {
  const auto refused = [](Mode mode, const std::function<void(Options&)>& change,
                          std::string_view word, std::string_view optimizer = "momentum",
                          bool deterministic = false) {
    Options options;
    change(options);
    const Status status = Rules::from(mode, options).check(3, optimizer, deterministic);
    INFO(status.message());
    return status.code() == ErrorCode::invalid_argument &&
           status.message().find(word) != std::string::npos;
  };
  const auto backups = [](int count) { return [=](Options& o) { o.backup_workers = count; }; };
  REQUIRE(refused(Mode::sync, backups(3), "at least one"));
  REQUIRE(refused(Mode::async, backups(1), "sync-ps"));
  REQUIRE(refused(Mode::sync, backups(1), "deterministic", "sgd", true));
  REQUIRE(refused(
      Mode::sync, [](Options& o) { o.staleness_rate = true; }, "async-ps"));
  REQUIRE(refused(
      Mode::async, [](Options& o) { o.staleness_rate = true; }, "nesterov", "adam"));
  REQUIRE(refused(
      Mode::async,
      [](Options& o) {
        o.delay_compensation = 0.1;
        o.staleness = 0;
      },
      "staleness other than 0"));
  REQUIRE_OK(with_backups(2).check(3, "adam", false));
  REQUIRE_OK(bounded(4).check(3, "adam", true));
}

TEST_CASE("the staleness-aware rate divides by the staleness, never by less than one") {
  Options options;
  REQUIRE(Rules::from(Mode::async, options).gradient_scale(8) == 1);
  options.staleness_rate = true;
  const Rules rules = Rules::from(Mode::async, options);
  REQUIRE(rules.gradient_scale(0) == 1);
  REQUIRE(rules.gradient_scale(1) == 1);
  REQUIRE(rules.gradient_scale(2) == 0.5);
  REQUIRE(rules.gradient_scale(8) == 0.125);
}

TEST_CASE("rules know their names, and whether staleness means anything") {
  REQUIRE(synchronous().strategy_name == "sync-ps");
  REQUIRE(bounded(3).strategy_name == "async-ps");
  REQUIRE(!synchronous().reports_staleness);
  REQUIRE(bounded(0).reports_staleness);
  REQUIRE(bounded(1).describe() != bounded(2).describe());
  REQUIRE(synchronous().describe() != bounded(0).describe());
}

// All workers contribute to step `step` and their update is taken.
void complete_step(Policy& policy, const std::vector<int>& workers, std::uint64_t step) {
  for (const int worker : workers) REQUIRE_OK(policy.contribute(worker, step));
  REQUIRE(policy.update_ready());
  REQUIRE(policy.take_update().applied == workers);
}

TEST_CASE("together: who has gone is not waited for, who comes goes on with the others' step") {
  Policy policy(synchronous(), 3);
  complete_step(policy, {0, 1, 2}, 0);
  REQUIRE_OK(policy.contribute(0, 1));
  REQUIRE_OK(policy.contribute(1, 1));
  REQUIRE(policy.leave(1));  // what waited is forgotten
  REQUIRE_FALSE(policy.update_ready());
  REQUIRE_FALSE(policy.leave(2));
  REQUIRE(policy.update_ready());
  REQUIRE(policy.take_update().applied == std::vector<int>{0});
  REQUIRE(policy.joining_step() == 2);
  policy.join(1, 3);  // another server is one step further
  REQUIRE_FALSE(policy.may_answer(1, 3));
  complete_step(policy, {0}, 2);
  REQUIRE(policy.may_answer(1, 3));
  REQUIRE_OK(policy.contribute(0, 3));
  REQUIRE_FALSE(policy.update_ready());
  REQUIRE_FALSE(policy.contribute(1, 2).ok());
  REQUIRE_OK(policy.contribute(1, 3));
  REQUIRE(policy.take_update().applied == std::vector<int>{0, 1});
}

TEST_CASE("together: a step to which nobody is left to contribute is passed over") {
  Policy policy(synchronous(), 2);
  complete_step(policy, {0, 1}, 0);
  policy.leave(0);
  policy.leave(1);
  REQUIRE(policy.version() == 1);
  policy.join(1, 5);
  REQUIRE(policy.version() == 5);
  REQUIRE(policy.may_answer(1, 5));
  policy.join(0, 7);
  complete_step(policy, {1}, 5);
  policy.leave(1);
  REQUIRE(policy.version() == 7);
}

TEST_CASE("bounded: who comes goes on with the slowest, and the bound holds for all") {
  Policy policy(bounded(2), 3);
  policy.leave(2);
  REQUIRE(policy.joining_step() == 0);
  for (std::uint64_t step = 0; step < 4; ++step) complete_step(policy, {0}, step);
  for (std::uint64_t step = 0; step < 3; ++step) complete_step(policy, {1}, step);
  REQUIRE(policy.joining_step() == 3);
  policy.join(2, 3);
  for (std::uint64_t step = 4; step < 6; ++step) complete_step(policy, {0}, step);
  REQUIRE_FALSE(policy.may_answer(0, 6));
  policy.leave(1);
  REQUIRE(policy.holding_back(0) == std::vector<int>{2});
  policy.leave(2);
  REQUIRE(policy.may_answer(0, 6));
  policy.leave(0);
  REQUIRE(policy.joining_step() == 6);
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
