// SPDX-License-Identifier: Apache-2.0
// The one communication thread of a rank. It owns the transport and advances tasks (an all-reduce,
// a push, a server) without ever blocking in one of them. The first failure fails every task.
#pragma once

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

/// Work on the progress thread: a state machine over the transport.
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
  /// Blocks until the task has ended. Bounded: the progress thread ends every task, by its deadline
  /// at the latest.
  Status wait() const;
  bool finished() const;
  /// When the task was first advanced and when it ended; only after finished().
  TimePoint started() const;
  TimePoint ended() const;

 private:
  friend class Progress;
  struct State;
  std::shared_ptr<State> state_;
};

class Progress {
 public:
  /// Takes the transport over and starts the thread. A task that has not moved for `timeout` fails.
  Progress(std::unique_ptr<Transport> transport, Duration timeout);

  /// Fails what is in flight, closes the transport with a short grace, joins the thread.
  ~Progress();

  /// Hands a task to the thread. Tasks start in the order of submission, on every rank the same,
  /// and are then advanced side by side; tasks on the same channel that must not interleave say so
  /// by `after`: the task does not start before that one has ended. Thread-safe.
  Ticket submit(std::unique_ptr<Task> task, const Ticket* after = nullptr);

  /// Runs the task to its end on the progress thread while the caller blocks.
  Status run(std::unique_ptr<Task> task) { return submit(std::move(task)).wait(); }

  /// Fails everything in flight with `why` and refuses what comes later; returns when no task and
  /// no operation uses anybody's memory any more. For owners that are destroyed half-way.
  /// Thread-safe; never called from a task.
  void cancel(const Status& why);

  /// The first failure, or ok. Thread-safe.
  Status failure() const;

  /// Payload moved so far. Thread-safe; exact when no task is in flight.
  TransferCounters counters() const;

  const Transport& transport() const { return *transport_; }

 private:
  struct Entry;

  void loop();
  bool adopt_submitted(std::unique_lock<std::mutex>& lock);
  bool advance_all();
  void check_deadlines();
  Duration sleep_limit() const;
  void fail_all(const Status& why);

  std::unique_ptr<Transport> transport_;
  const Duration timeout_;
  mutable std::mutex mutex_;
  std::condition_variable submitted_signal_;
  std::condition_variable cancelled_signal_;
  std::deque<Entry> submitted_;  // guarded by mutex_
  Status failure_;               // guarded by mutex_
  Status cancel_;                // guarded by mutex_; asked for and not yet carried out
  TransferCounters counters_;    // guarded by mutex_
  bool stopping_ = false;        // guarded by mutex_
  std::vector<Entry> active_;    // of the progress thread alone
  std::thread thread_;
};

}  // namespace dist
