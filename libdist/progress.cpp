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
  std::atomic<bool> finished =
      false;      // written under mutex; what is below does not change after it
  Status status;  // guarded by mutex until finished, like all below
  TimePoint started;
  TimePoint ended;

  void finish(Status outcome, TimePoint first_advanced) {
    {
      const std::lock_guard lock(mutex);
      status = std::move(outcome);
      started = first_advanced;
      ended = Clock::now();
      finished.store(true, std::memory_order_release);
    }
    signal.notify_all();
  }
};

Status Ticket::wait() const {
  if (finished()) return state_->status;
  std::unique_lock lock(state_->mutex);
  state_->signal.wait(lock, [&] { return finished(); });
  return state_->status;
}

bool Ticket::wait_until(TimePoint deadline) const {
  std::unique_lock lock(state_->mutex);
  return state_->signal.wait_until(lock, deadline, [&] { return finished(); });
}

bool Ticket::finished() const { return state_->finished.load(std::memory_order_acquire); }

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
  std::vector<Ticket> after;
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
    call_driver();
  }
  thread_.join();
}

Ticket Progress::submit(std::unique_ptr<Task> task, std::vector<Ticket> after) {
  const std::lock_guard lock(mutex_);
  Ticket ticket = enqueue(std::move(task), std::move(after));
  if (!submitted_.empty()) call_driver();
  return ticket;
}

Status Progress::run(std::unique_ptr<Task> task) {
  Ticket own;
  {
    Lock lock(mutex_);
    own = enqueue(std::move(task), {});
    if (driven_) {
      call_driver();
    } else if (!own.finished()) {
      driven_ = true;
      drive(lock, &own);
      driven_ = false;
      // Under the lock: the destructor waits for this thread to give the role back.
      if (stopping_ || has_work()) role_signal_.notify_one();
    }
  }
  return own.wait();
}

// Queues a task; after a failure its ticket has already ended. With the lock held.
Ticket Progress::enqueue(std::unique_ptr<Task> task, std::vector<Ticket> after) {
  Ticket ticket;
  ticket.state_ = std::make_shared<Ticket::State>();
  const auto now = Clock::now();
  if (!failure_.ok()) {
    ticket.state_->finish(failure_, now);
    return ticket;
  }
  submitted_.push_back({std::move(task), ticket.state_, std::move(after), std::nullopt, now});
  return ticket;
}

// Makes the driver look at what has been asked for. With the lock held.
void Progress::call_driver() {
  called_.store(true, std::memory_order_release);
  if (driven_) {
    transport_->wake();
  } else {
    role_signal_.notify_one();
  }
}

// With the lock held, while nobody drives.
bool Progress::has_work() const { return !submitted_.empty() || !active_.empty() || !cancel_.ok(); }

void Progress::cancel(const Status& why) {
  Lock lock(mutex_);
  cancel_ = why;
  call_driver();
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
  Lock lock(mutex_);
  for (;;) {
    role_signal_.wait(lock, [&] { return !driven_ && (stopping_ || has_work()); });
    driven_ = true;
    if (stopping_) break;
    drive(lock, nullptr);
    driven_ = false;
  }
  lock.unlock();
  fail_all(Status::cancelled("the world was closed while the task was in flight"));
  transport_->close(kCloseGrace);
  lock.lock();
  cancel_ = {};
  cancelled_signal_.notify_all();
}

// Drives until `own` has ended or, without it, until nothing is left to do; in any case no longer
// than until the end of the world. Called and left with the lock held and the role taken.
void Progress::drive(Lock& lock, const Ticket* own) {
  while (!stopping_ && !(own != nullptr && own->finished())) {
    called_.store(false, std::memory_order_relaxed);
    const Status cancel = cancel_;
    if (cancel.ok()) adopt_submitted();
    if (cancel.ok() && active_.empty()) return;
    lock.unlock();
    if (cancel.ok()) {
      drive_tasks(own);
    } else {
      fail_all(cancel);
    }
    lock.lock();
    if (cancel.ok()) continue;
    cancel_ = {};
    cancelled_signal_.notify_all();
  }
}

void Progress::adopt_submitted() {
  for (Entry& entry : submitted_) {
    entry.last_moved = Clock::now();
    active_.push_back(std::move(entry));
  }
  submitted_.clear();
}

// Until the driver is called, its own task has ended or no task is left.
void Progress::drive_tasks(const Ticket* own) {
  while (!called_.load(std::memory_order_acquire)) {
    const bool moved = advance_all();
    if (!moved) check_deadlines();
    if (active_.empty() || (own != nullptr && own->finished())) return;
    // Also when something moved: a task that always has work must not starve the transport.
    transport_->progress(moved ? Duration::zero() : sleep_limit());
  }
}

// One turn for every task; true if anything moved.
bool Progress::advance_all() {
  bool moved = false;
  for (std::size_t i = 0; i < active_.size();) {
    if (!advance(active_[i], &moved)) {
      ++i;
    } else if (!active_.empty()) {
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return moved;
}

// One turn for one task; true if it has ended. A failure ends all of them.
bool Progress::advance(Entry& entry, bool* moved) {
  std::erase_if(entry.after, [](const Ticket& ticket) { return ticket.finished(); });
  if (!entry.after.empty()) {
    entry.last_moved = Clock::now();
    return false;
  }
  if (!entry.started) entry.started = Clock::now();
  const auto result = entry.task->advance(*transport_);
  if (!result.ok()) {
    *moved = true;
    fail_all(result.status());
    return true;
  }
  *moved |= *result != Advance::idle;
  if (*result == Advance::moved) entry.last_moved = Clock::now();
  if (*result != Advance::finished) return false;
  {
    const std::lock_guard lock(mutex_);
    counters_ = transport_->counters();
  }
  entry.ticket->finish({}, *entry.started);
  return true;
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
