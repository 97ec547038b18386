// SPDX-License-Identifier: Apache-2.0
// The caller's end of an operation that runs beside the caller.
#pragma once

#include <optional>
#include <string>

#include "libdist/progress.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// One operation that was started and may not have ended. Move-only; used by one thread at a time.
///
/// The operation's memory belongs to it until it has ended. Therefore the destructor waits for that
/// end (and so does the assignment of another Work), and forgets the outcome: call wait() to learn
/// it. Waiting is bounded: an operation in which nothing moves fails after options.timeout, and
/// destroying the World ends whatever is in flight.
class [[nodiscard]] Work {
 public:
  /// Nothing to wait for; ok.
  Work() = default;
  /// `what` names the operation in messages.
  Work(Ticket ticket, std::string what) : ticket_(std::move(ticket)), what_(std::move(what)) {}
  /// An operation that never started.
  explicit Work(Status failure) : status_(std::move(failure)) {}

  /// Leaves nothing to wait for there.
  Work(Work&& other) noexcept { take(std::move(other)); }
  /// Waits for the end of the operation that was here.
  Work& operator=(Work&& other) noexcept;
  ~Work() { settle(); }

  /// Whether the operation has ended. Never blocks.
  bool test();

  /// Blocks until the operation has ended; its outcome, also when asked again.
  Status wait();

  /// The same, but at most until `deadline`: then timed_out, and the operation goes on.
  Status wait_until(TimePoint deadline);

  /// The outcome of an operation that has ended; ok while it is in flight. Never blocks.
  Status status();

 private:
  void take(Work&& other) noexcept;
  void settle();

  std::optional<Ticket> ticket_;  // while the operation may be in flight
  std::string what_;
  Status status_;
};

}  // namespace dist
