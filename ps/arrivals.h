// SPDX-License-Identifier: Apache-2.0
// Which pieces of a step have come back: written by whoever drives the tasks, waited for by the
// training thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "libdist/types.h"

namespace dist::ps {

/// Thread-safe.
class Arrivals {
 public:
  explicit Arrivals(std::size_t pieces) : here_(pieces, false) {}

  /// The next step: nothing is here.
  void begin_step();

  /// A piece is, and how stale the worker's last gradient of it was.
  void arrived(std::uint32_t piece, std::uint64_t staleness);

  /// The largest of the step so far.
  std::uint64_t staleness() const;

  /// Whether the pieces [first, last) are all here, or come before `deadline`.
  bool wait_until(std::size_t first, std::size_t last, TimePoint deadline) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable signal_;
  std::vector<bool> here_;
  std::uint64_t staleness_ = 0;
};

}  // namespace dist::ps
