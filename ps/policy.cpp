// SPDX-License-Identifier: Apache-2.0
#include "ps/policy.h"

#include <fmt/format.h>

#include <algorithm>

#include "libdist/check.h"

namespace dist::ps {

Rules Rules::from(Mode mode, const Options& options) {
  if (mode == Mode::sync) return {0, false, "sync-ps"};
  return {options.staleness, true, "async-ps"};
}

std::string Rules::describe() const {
  return fmt::format("{}, {} steps ahead", strategy_name, steps_ahead);
}

Policy::Policy(Rules rules, int workers) : rules_(rules), workers_(index(workers)) {
  DIST_ASSERT(workers > 0, "a parameter server needs a worker");
}

Status Policy::contribute(int worker, std::uint64_t step) {
  Worker& from = workers_.at(index(worker));
  if (from.ended) {
    return Status::protocol(fmt::format("worker {} pushed after its end", worker));
  }
  const std::uint64_t next = from.clock + (from.waiting ? 1 : 0);
  if (from.waiting || step != next) {
    return Status::protocol(fmt::format(
        "worker {} pushed step {} {}, its next is step {}: a contribution counts once, in its turn",
        worker, step, from.waiting ? "while its last one still waits" : "out of turn", next));
  }
  from.waiting = true;
  waiting_.push_back(worker);
  return {};
}

bool Policy::update_ready() const {
  if (waiting_.empty()) return false;
  if (rules_.steps_ahead != 0) return true;
  return std::all_of(workers_.begin(), workers_.end(),
                     [](const Worker& worker) { return worker.waiting || worker.ended; });
}

std::vector<int> Policy::take_update() {
  DIST_ASSERT(update_ready(), "an update was taken before its time");
  const auto count = rules_.steps_ahead == 0 ? waiting_.size() : 1;
  const auto last = waiting_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<int> taken(waiting_.begin(), last);
  waiting_.erase(waiting_.begin(), last);
  std::sort(taken.begin(), taken.end());
  for (const int worker : taken) {
    workers_[index(worker)].waiting = false;
    ++workers_[index(worker)].clock;
  }
  ++version_;
  return taken;
}

bool Policy::holds_back(const Worker& other, std::uint64_t clock) const {
  return !other.ended && clock > other.clock && clock - other.clock > rules_.steps_ahead;
}

bool Policy::may_answer(int worker) const {
  const Worker& asking = workers_.at(index(worker));
  if (asking.waiting) return false;
  return std::none_of(workers_.begin(), workers_.end(),
                      [&](const Worker& other) { return holds_back(other, asking.clock); });
}

void Policy::end(int worker) { workers_.at(index(worker)).ended = true; }

std::optional<int> Policy::longest_waiting() const {
  return waiting_.empty() ? std::nullopt : std::optional(waiting_.front());
}

std::vector<int> Policy::holding_back(int worker) const {
  const Worker& asking = workers_.at(index(worker));
  std::vector<int> others;
  for (std::size_t w = 0; w < workers_.size(); ++w) {
    const bool missing = asking.waiting ? !workers_[w].waiting && !workers_[w].ended
                                        : holds_back(workers_[w], asking.clock);
    if (missing) others.push_back(static_cast<int>(w));
  }
  return others;
}

}  // namespace dist::ps
