// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/ideal.h"

#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "libdist/check.h"
#include "ps/policy.h"

namespace dist::bench {
namespace {

// One piece, whose server answers at once.
class Simulation {
 public:
  Simulation(const ps::Rules& rules, const Delays& delays, int workers, RunLength length)
      : policy_(rules, workers),
        delays_(delays),
        workers_(workers),
        length_(length),
        done_(static_cast<std::size_t>(workers), 0),
        asks_(static_cast<std::size_t>(workers), true) {}

  IdealRun run() {
    answer(0);
    while (!computing_.empty()) {
      const auto [seconds, worker] = computing_.top();
      computing_.pop();
      const auto verdict = policy_.contribute(worker, done(worker)++);
      DIST_ASSERT(verdict.ok(), "a contribution out of turn");
      asks_[static_cast<std::size_t>(worker)] = true;
      answer(seconds);
      outcome_.seconds = seconds;
    }
    outcome_.dropped = policy_.dropped();
    return outcome_;
  }

 private:
  std::uint64_t& done(int worker) { return done_[static_cast<std::size_t>(worker)]; }

  // Until nothing changes: a worker that ends may be the one that others have waited for.
  void answer(double seconds) {
    for (bool moved = true; moved;) {
      moved = false;
      for (; policy_.update_ready(); moved = true) {
        outcome_.applied += policy_.take_update().applied.size();
      }
      for (int worker = 0; worker < workers_; ++worker) {
        auto&& asks = asks_[static_cast<std::size_t>(worker)];
        if (!asks || !policy_.may_answer(worker, done(worker))) continue;
        asks = false;
        moved = true;
        policy_.give(worker);
        if (length_.goes_on(done(worker), seconds)) {
          computing_.emplace(seconds + delays_.ms(worker, workers_, done(worker)) / 1e3, worker);
        } else {
          policy_.end(worker);
        }
      }
    }
  }

  ps::Policy policy_;
  const Delays& delays_;
  const int workers_;
  const RunLength length_;
  std::vector<std::uint64_t> done_;  // steps, by worker
  std::vector<bool> asks_;           // for parameters
  // Who computes until when; of those who end together the lowest number first.
  using Computing = std::pair<double, int>;
  std::priority_queue<Computing, std::vector<Computing>, std::greater<>> computing_;
  IdealRun outcome_;
};

}  // namespace

IdealRun ideal_run(const Variant& variant, const Delays& delays, int workers, RunLength length) {
  DIST_ASSERT(delays.compute_ms > 0, "without delays the ideal takes no time");
  ps::Rules rules;
  rules.backup_workers = variant.backup_workers;
  rules.steps_ahead = variant.strategy == "async-ps" ? variant.staleness : 0;
  return Simulation(rules, delays, workers, length).run();
}

}  // namespace dist::bench
