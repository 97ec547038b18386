// SPDX-License-Identifier: Apache-2.0
// NCCL over host memory for ranks that are threads of one process, each with a FakeDevice: programs
// that link fake_nccl call it in place of the library. It may be told to misbehave as NCCL has been
// seen to, and remembers what callers do that NCCL forbids.
#pragma once

#include <string>
#include <vector>

#include "libdist/types.h"

namespace dist::test::fake_nccl {

/// What goes wrong at one rank. Launches are counted from 0 in each communicator.
struct Faults {
  static constexpr int kNever = -1;

  int hangs_at = kNever;         ///< the kernels of this launch do not end before an abort
  int late_error_at = kNever;    ///< from this launch on the communicator has an asynchronous error
  Duration late_error_after{0};  ///< that shows so long after the launch
  int never_issued_at = kNever;  ///< this launch stays in NCCL's background
  int polls = 0;                 ///< a launch is in the background for so many questions
  bool slow_calls = false;       ///< a launch takes a moment before it touches the communicator
  bool init_hangs = false;       ///< meeting the others does not end
  bool init_fails = false;
  bool refuses_abort = false;  ///< ncclCommAbort does not return before release()
  int version = 22809;
};

/// Of the rank that calls in the order of ncclCommInitRankConfig; ncclGetVersion() takes that of
/// the calling thread, which set_rank() has named.
void set_rank(Rank rank);
void set_faults(Rank rank, Faults faults);

/// Lets aborts return that were refused.
void release();

/// What a rank has called, one line a launch: "all-reduce 12 f32, send 4 u8 to 1".
std::vector<std::string> launches(Rank rank);

/// What callers may not do: use a communicator that is gone or busy, destroy one that has not been
/// finalized, sizes that differ between ranks.
std::vector<std::string> breaches();

int live_communicators();

/// Forgets faults, launches and breaches. Release() and the end of all communicators come before.
void reset();

}  // namespace dist::test::fake_nccl
