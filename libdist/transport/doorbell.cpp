// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/doorbell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>
#include <thread>

namespace dist {
namespace {

// The kernel's futex takes the plain word; not FUTEX_PRIVATE_FLAG, since the word may be shared by
// processes.
long futex(std::atomic<std::uint32_t>* word, int command, std::uint32_t value,
           const timespec* limit) {
  static_assert(sizeof(*word) == sizeof(std::uint32_t));
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(word), command, value, limit,
                   nullptr, 0);
}

}  // namespace

void Doorbell::sleep(std::uint32_t armed, Duration limit) {
  if (limit > Duration::zero()) {
    constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
    const timespec relative{limit.count() / kNanosecondsPerSecond,
                            limit.count() % kNanosecondsPerSecond};
    // Woken, timed out, interrupted or already rung: the caller looks for work in every case.
    futex(&bell_, FUTEX_WAIT, armed, &relative);
  }
  disarm();
}

// The exchange lets one of several ringers make the system call.
void Doorbell::wake_sleeper() {
  if (sleeping_.exchange(0, std::memory_order_seq_cst) == 0) return;
  bell_.fetch_add(1, std::memory_order_release);
  futex(&bell_, FUTEX_WAKE, INT_MAX, nullptr);
}

void pause_briefly() {
#if defined(__x86_64__)
  constexpr int kPauses = 8;
  for (int i = 0; i < kPauses; ++i) __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace dist
