// SPDX-License-Identifier: Apache-2.0
// How a rank sleeps until a peer (another thread or process) has done something for it: a futex
// word in shared memory. Ringing costs one load while nobody sleeps.
//
// No wake-up is lost: the sleeper says that it sleeps, then looks once more for work; the ringer
// publishes work, then looks whether somebody sleeps. All four accesses are sequentially
// consistent, so one of the two sees the other.
#pragma once

#include <atomic>
#include <cstdint>

#include "libdist/types.h"

namespace dist {

/// Lies in shared memory. One thread sleeps on it, any may ring it.
class alignas(64) Doorbell {
 public:
  /// Before the last look for work. Returns what sleep() needs.
  std::uint32_t arm() {
    const auto seen = bell_.load(std::memory_order_acquire);
    sleeping_.store(1, std::memory_order_seq_cst);
    return seen;
  }

  /// Instead of sleep(), where that look found work.
  void disarm() { sleeping_.store(0, std::memory_order_relaxed); }

  /// Sleeps until a ring that came after arm(), at most `limit`. May return early.
  void sleep(std::uint32_t armed, Duration limit);

  /// After work was published with a sequentially consistent store.
  void ring() {
    if (sleeping_.load(std::memory_order_seq_cst) != 0) wake_sleeper();
  }

 private:
  void wake_sleeper();

  std::atomic<std::uint32_t> bell_{0};
  std::atomic<std::uint32_t> sleeping_{0};
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// Lets the core breathe between two looks of a spinning wait: some hundred nanoseconds.
void pause_briefly();

}  // namespace dist
