// SPDX-License-Identifier: Apache-2.0
// The communication of a rank: whoever drives owns the transport and advances tasks (an all-reduce,
// a push, a server) without ever blocking in one of them. One thread drives at a time: a thread
// that waits in run() while nobody else drives, otherwise the progress thread. The first failure
// fails every task.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libdist/status.h"
#include "libdist/transport/transport.h"
#include "libdist/types.h"

namespace dist {

/// What one call of Task::advance achieved.
enum class Advance : std::uint8_t {
  idle,      ///< nothing could move
  moved,     ///< something moved; more is to do
  finished,  ///< the task is done
};

/// Work for whoever drives: a state machine over the transport. Its calls never overlap, but may
/// come from different threads.
class Task {
 public:
  virtual ~Task() = default;

  /// Moves as far as possible without blocking.
  virtual Result<Advance> advance(Transport& transport) = 0;

  /// What it is and whom it waits for, for error messages:
  /// "all-reduce of bucket 3, round 2: receive from rank 1".
  virtual std::string waits_for() const = 0;

  /// False for a task that may rightly wait for ever (a server between two pushes).
  virtual bool has_deadline() const { return true; }

  /// How long the thread may sleep in the transport before this task wants to be asked again; for
  /// tasks that wait for something the transport does not see.
  virtual Duration poll_interval() const { return std::chrono::milliseconds(20); }
};

/// The caller's end of a submitted task. Copyable; all copies see the same task.
class Ticket {
 public:
  /// Blocks until the task has ended. Bounded: the driver ends every task, by its deadline at the
  /// latest.
  Status wait() const;
  /// Blocks until the task has ended (true) or `deadline` has passed (false, the task goes on).
  bool wait_until(TimePoint deadline) const;
  /// Whether the task has ended. Never blocks.
  bool finished() const;
  /// When the task was first advanced; only after finished().
  TimePoint started() const;
  /// When it ended; only after finished().
  TimePoint ended() const;

 private:
  friend class Progress;
  struct State;
  std::shared_ptr<State> state_;
};

/// Owns the transport and the progress thread. Neither copied nor moved.
class Progress {
 public:
  /// Takes the transport over and starts the thread. A task that has not moved for `timeout` fails.
  Progress(std::unique_ptr<Transport> transport, Duration timeout);

  /// Fails what is in flight, closes the transport with a short grace, joins the thread.
  ~Progress();

  /// Hands a task to whoever drives, and returns. Tasks start in the order of submission, on every
  /// rank the same, and are then advanced side by side; tasks on the same channel that must not
  /// interleave say so by `after`: the task does not start before those have ended. Thread-safe.
  Ticket submit(std::unique_ptr<Task> task, std::vector<Ticket> after = {});

  /// submit() and wait() in one. Where nobody drives, the caller does so until this task has ended:
  /// nobody needs to be woken up on the way. What others submit in the meantime is served by it
  /// too, and left to the progress thread afterwards. Thread-safe.
  Status run(std::unique_ptr<Task> task);

  /// Fails everything in flight with `why` and refuses what comes later; returns when no task and
  /// no operation uses anybody's memory any more. For owners that are destroyed half-way.
  /// Thread-safe; never called from a task.
  void cancel(const Status& why);

  /// The first failure, or ok. Thread-safe.
  Status failure() const;

  /// Payload moved so far. Thread-safe; exact when no task is in flight.
  TransferCounters counters() const;

  /// For its name, ranks and capabilities; whoever drives has the rest.
  const Transport& transport() const { return *transport_; }

 private:
  struct Entry;
  using Lock = std::unique_lock<std::mutex>;

  void loop();
  Ticket enqueue(std::unique_ptr<Task> task, std::vector<Ticket> after);
  void call_driver();
  bool has_work() const;
  void drive(Lock& lock, const Ticket* own);
  void adopt_submitted();
  void drive_tasks(const Ticket* own);
  bool advance_all();
  bool advance(Entry& entry, bool* moved);
  void check_deadlines();
  Duration sleep_limit() const;
  void fail_all(const Status& why);

  std::unique_ptr<Transport> transport_;
  const Duration timeout_;
  mutable std::mutex mutex_;
  std::condition_variable role_signal_;  // the progress thread may have to take the role
  std::condition_variable cancelled_signal_;
  std::deque<Entry> submitted_;       // guarded by mutex_
  Status failure_;                    // guarded by mutex_
  Status cancel_;                     // guarded by mutex_; asked for and not yet carried out
  TransferCounters counters_;         // guarded by mutex_
  bool stopping_ = false;             // guarded by mutex_
  bool driven_ = false;               // guarded by mutex_; somebody has the role
  std::atomic<bool> called_ = false;  // written under mutex_; the driver is to look under the lock
  std::vector<Entry> active_;         // of whoever drives; guarded by mutex_ while nobody does
  std::thread thread_;
};

}  // namespace dist
