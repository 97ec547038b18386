// SPDX-License-Identifier: Apache-2.0
#include "ps/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "libdist/check.h"

namespace dist::ps {

Rules Rules::from(Mode mode, const Options& options) {
  Rules rules;
  rules.backup_workers = options.backup_workers;
  rules.staleness_rate = options.staleness_rate;
  rules.delay_compensation = options.delay_compensation;
  if (mode == Mode::sync) return rules;
  rules.steps_ahead = options.staleness;
  rules.reports_staleness = true;
  rules.strategy_name = "async-ps";
  return rules;
}

Status Rules::check(int workers, std::string_view optimizer, bool deterministic) const {
  if (backup_workers != 0 && !together()) {
    return Status::invalid_argument(
        "backup-workers leaves workers of a step behind; asynchronous steps wait for nobody: use "
        "sync-ps, or staleness without backup-workers");
  }
  if (backup_workers >= workers) {
    return Status::invalid_argument(fmt::format(
        "{} backup workers of {}: at least one must be waited for", backup_workers, workers));
  }
  if (backup_workers != 0 && deterministic) {
    return Status::invalid_argument(
        "backup-workers lets the order of arrival choose the summands, which deterministic "
        "refuses");
  }
  if ((staleness_rate || delay_compensation != 0) && together()) {
    return Status::invalid_argument(
        "staleness-rate and delay-compensation are for stale gradients: use async-ps with a "
        "staleness other than 0");
  }
  const bool linear = optimizer == "sgd" || optimizer == "momentum" || optimizer == "nesterov";
  if (staleness_rate && !linear) {
    return Status::invalid_argument(fmt::format(
        "staleness-rate scales the gradient, which the optimizer {} divides by its size; valid: "
        "sgd, momentum, nesterov",
        optimizer));
  }
  return {};
}

std::string Rules::describe() const {
  return fmt::format("{}, {} steps ahead, {} backup workers, staleness rate {}, compensation {}",
                     strategy_name, steps_ahead, backup_workers, staleness_rate,
                     delay_compensation);
}

double Rules::gradient_scale(std::uint64_t staleness) const {
  return staleness_rate && staleness > 1 ? 1.0 / static_cast<double>(staleness) : 1.0;
}

Policy::Policy(Rules rules, int workers) : rules_(rules), workers_(index(workers)) {
  DIST_ASSERT(workers > 0, "a parameter server needs a worker");
}

Result<Policy::Verdict> Policy::contribute(int worker, std::uint64_t step) {
  Worker& from = workers_.at(index(worker));
  if (from.ended) {
    return Status::protocol(fmt::format("worker {} pushed after its end", worker));
  }
  const std::uint64_t next = from.clock + (from.waiting ? 1 : 0);
  if (from.waiting || step != next) {
    if (step < next) ++doubled_;
    return Status::protocol(fmt::format(
        "worker {} pushed step {} {}, its next is step {}: a contribution counts once, in its turn",
        worker, step, from.waiting ? "while its last one still waits" : "out of turn", next));
  }
  if (rules_.may_drop() && from.given != version_) {
    ++from.clock;
    ++dropped_;
    return Verdict::dropped;
  }
  from.waiting = true;
  waiting_.push_back(worker);
  return Verdict::waits;
}

bool Policy::update_ready() const {
  if (waiting_.empty()) return false;
  if (!rules_.together()) return true;
  const auto late = std::count_if(workers_.begin(), workers_.end(),
                                  [&](const Worker& worker) { return missing(worker); });
  return late <= rules_.backup_workers;
}

// Backup workers are those who come last, whether they have come by now or not: so many workers
// make a step as long as nobody ends.
Policy::Update Policy::take_update() {
  DIST_ASSERT(update_ready(), "an update was taken before its time");
  std::size_t count = 1;
  if (rules_.together()) {
    const auto active = std::count_if(
        workers_.begin(), workers_.end(),
        [this](const Worker& worker) { return !worker.ended && worker.from_version <= version_; });
    count = index(std::max(static_cast<int>(active) - rules_.backup_workers, 1));
  }
  const auto last = waiting_.begin() + static_cast<std::ptrdiff_t>(count);
  Update update{{waiting_.begin(), last}, {}};
  if (rules_.together()) update.dropped.assign(last, waiting_.end());
  waiting_.erase(waiting_.begin(), rules_.together() ? waiting_.end() : last);
  std::sort(update.applied.begin(), update.applied.end());
  for (const int worker : update.applied) settle(worker);
  for (const int worker : update.dropped) settle(worker);
  dropped_ += update.dropped.size();
  ++version_;
  skip_abandoned_steps();
  return update;
}

void Policy::settle(int worker) {
  workers_[index(worker)].waiting = false;
  ++workers_[index(worker)].clock;
}

bool Policy::holds_back(const Worker& other, std::uint64_t clock) const {
  return !rules_.together() && !other.ended && clock > other.clock &&
         clock - other.clock > rules_.steps_ahead;
}

bool Policy::may_answer(int worker, std::uint64_t steps) const {
  const Worker& asking = workers_.at(index(worker));
  if (asking.clock != steps || version_ < asking.from_version) return false;
  return std::none_of(workers_.begin(), workers_.end(),
                      [&](const Worker& other) { return holds_back(other, asking.clock); });
}

void Policy::end(int worker) {
  workers_.at(index(worker)).ended = true;
  skip_abandoned_steps();
}

std::uint64_t Policy::joining_step() const {
  if (rules_.together()) return version_ - resumed_at_;
  std::uint64_t slowest = 0;
  std::uint64_t fastest = 0;
  bool anybody = false;
  for (const Worker& worker : workers_) {
    fastest = std::max(fastest, worker.clock);
    if (worker.ended) continue;
    slowest = anybody ? std::min(slowest, worker.clock) : worker.clock;
    anybody = true;
  }
  return anybody ? slowest : fastest;
}

void Policy::join(int worker, std::uint64_t step) {
  Worker& joining = workers_.at(index(worker));
  DIST_ASSERT(!joining.waiting, "a worker that is there cannot come");
  joining = {};
  joining.clock = step;
  if (rules_.together()) joining.from_version = resumed_at_ + step;
  skip_abandoned_steps();
}

bool Policy::leave(int worker) {
  Worker& leaving = workers_.at(index(worker));
  const bool waited = std::exchange(leaving.waiting, false);
  leaving.ended = true;
  if (waited) waiting_.erase(std::find(waiting_.begin(), waiting_.end(), worker));
  skip_abandoned_steps();
  return waited;
}

// A worker that died may have been the last to contribute to a step, on other pieces only. Who has
// come since goes on later, so nobody is left who could contribute to that step.
void Policy::skip_abandoned_steps() {
  if (!rules_.together() || !waiting_.empty()) return;
  std::optional<std::uint64_t> next;
  for (const Worker& worker : workers_) {
    if (!worker.ended) next = std::min(next.value_or(worker.from_version), worker.from_version);
  }
  version_ = std::max(version_, next.value_or(version_));
}

std::optional<int> Policy::longest_waiting() const {
  return waiting_.empty() ? std::nullopt : std::optional(waiting_.front());
}

std::vector<int> Policy::holding_back(int worker) const {
  const Worker& asking = workers_.at(index(worker));
  std::vector<int> others;
  for (std::size_t w = 0; w < workers_.size(); ++w) {
    const bool awaited = asking.waiting || version_ < asking.from_version
                             ? missing(workers_[w])
                             : holds_back(workers_[w], asking.clock);
    if (awaited) others.push_back(static_cast<int>(w));
  }
  return others;
}

}  // namespace dist::ps
