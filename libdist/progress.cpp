// SPDX-License-Identifier: Apache-2.0
#include "libdist/progress.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <optional>

namespace dist {
namespace {

constexpr Duration kCloseGrace = std::chrono::seconds(2);
constexpr Duration kFailureGrace = std::chrono::milliseconds(100);

}  // namespace

struct Ticket::State {
  mutable std::mutex mutex;
  std::condition_variable signal;
  bool finished = false;  // guarded by mutex, like all below
  Status status;
  TimePoint started;
  TimePoint ended;

  void finish(Status outcome, TimePoint first_advanced) {
    {
      const std::lock_guard lock(mutex);
      status = std::move(outcome);
      started = first_advanced;
      ended = Clock::now();
      finished = true;
    }
    signal.notify_all();
  }
};

Status Ticket::wait() const {
  std::unique_lock lock(state_->mutex);
  state_->signal.wait(lock, [&] { return state_->finished; });
  return state_->status;
}

bool Ticket::finished() const {
  const std::lock_guard lock(state_->mutex);
  return state_->finished;
}

TimePoint Ticket::started() const {
  const std::lock_guard lock(state_->mutex);
  return state_->started;
}

TimePoint Ticket::ended() const {
  const std::lock_guard lock(state_->mutex);
  return state_->ended;
}

struct Progress::Entry {
  std::unique_ptr<Task> task;
  std::shared_ptr<Ticket::State> ticket;
  std::optional<Ticket> after;
  std::optional<TimePoint> started;
  TimePoint last_moved;
};

Progress::Progress(std::unique_ptr<Transport> transport, Duration timeout)
    : transport_(std::move(transport)), timeout_(timeout), thread_([this] { loop(); }) {
  pthread_setname_np(thread_.native_handle(), "dist-progress");
}

Progress::~Progress() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  submitted_signal_.notify_all();
  transport_->wake();
  thread_.join();
}

Ticket Progress::submit(std::unique_ptr<Task> task, const Ticket* after) {
  Ticket ticket;
  ticket.state_ = std::make_shared<Ticket::State>();
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) {
      ticket.state_->finish(failure_, Clock::now());
      return ticket;
    }
    submitted_.push_back({std::move(task), ticket.state_,
                          after != nullptr ? std::optional(*after) : std::nullopt, std::nullopt,
                          Clock::now()});
  }
  submitted_signal_.notify_all();
  transport_->wake();
  return ticket;
}

void Progress::cancel(const Status& why) {
  std::unique_lock lock(mutex_);
  cancel_ = why;
  submitted_signal_.notify_all();
  transport_->wake();
  cancelled_signal_.wait(lock, [&] { return cancel_.ok(); });
}

Status Progress::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

TransferCounters Progress::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

void Progress::loop() {
  for (;;) {
    Status cancel;
    {
      std::unique_lock lock(mutex_);
      if (!adopt_submitted(lock)) break;
      cancel = cancel_;
    }
    if (!cancel.ok()) {
      fail_all(cancel);
      const std::lock_guard lock(mutex_);
      cancel_ = {};
      cancelled_signal_.notify_all();
      continue;
    }
    const bool moved = advance_all();
    if (!moved) check_deadlines();
    // Also when something moved: a task that always has work must not starve the transport.
    if (!active_.empty()) transport_->progress(moved ? Duration::zero() : sleep_limit());
  }
  fail_all(Status::cancelled("the world was closed while the task was in flight"));
  transport_->close(kCloseGrace);
}

// Moves new tasks to the active list; sleeps while there is nothing to do. False: the end.
bool Progress::adopt_submitted(std::unique_lock<std::mutex>& lock) {
  if (active_.empty()) {
    submitted_signal_.wait(lock, [&] { return stopping_ || !submitted_.empty() || !cancel_.ok(); });
  }
  if (stopping_) return false;
  for (Entry& entry : submitted_) {
    entry.last_moved = Clock::now();
    active_.push_back(std::move(entry));
  }
  submitted_.clear();
  return true;
}

// One turn for every task; true if anything moved.
bool Progress::advance_all() {
  bool moved = false;
  for (std::size_t i = 0; i < active_.size();) {
    Entry& entry = active_[i];
    if (entry.after && !entry.after->finished()) {
      entry.last_moved = Clock::now();
      ++i;
      continue;
    }
    if (!entry.started) entry.started = Clock::now();
    const auto result = entry.task->advance(*transport_);
    if (!result.ok()) {
      fail_all(result.status());
      return true;
    }
    moved |= *result != Advance::idle;
    if (*result == Advance::moved) entry.last_moved = Clock::now();
    if (*result != Advance::finished) {
      ++i;
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      counters_ = transport_->counters();
    }
    entry.ticket->finish({}, *entry.started);
    active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return moved;
}

void Progress::check_deadlines() {
  const auto now = Clock::now();
  for (const Entry& entry : active_) {
    if (!entry.task->has_deadline() || now - entry.last_moved < timeout_) continue;
    fail_all(Status::timed_out(fmt::format(
        "{} -> rank {} waited {:.1f} s over {} and nothing moved", entry.task->waits_for(),
        transport_->rank(), std::chrono::duration<double>(now - entry.last_moved).count(),
        transport_->name())));
    return;
  }
}

Duration Progress::sleep_limit() const {
  Duration limit = Duration::max();
  for (const Entry& entry : active_) limit = std::min(limit, entry.task->poll_interval());
  return limit;
}

// The first failure is the story; everything else in flight ends with it.
void Progress::fail_all(const Status& why) {
  std::deque<Entry> ended;
  {
    const std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = why;
    ended.swap(submitted_);
  }
  // Once a caller hears of the failure it may give back the memory that operations in flight use.
  if (!active_.empty()) transport_->close(kFailureGrace);
  for (Entry& entry : active_) ended.push_back(std::move(entry));
  active_.clear();
  for (Entry& entry : ended) entry.ticket->finish(why, entry.started.value_or(Clock::now()));
}

}  // namespace dist
