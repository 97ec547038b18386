// SPDX-License-Identifier: Apache-2.0
// What a policy could do at best: the policy itself (ps/policy.h) in virtual time, where computing
// takes as long as the delays say and everything else takes none. Pure.
#pragma once

#include <cstdint>

#include "bench/ps/delays.h"
#include "bench/ps/variant.h"

namespace dist::bench {

/// When a worker ends.
struct RunLength {
  std::uint64_t steps = 0;  ///< after so many steps of its own; 0: by time
  double seconds = 0;       ///< it begins no step later than this

  /// Whether the worker that has done `steps` steps begins another one.
  bool goes_on(std::uint64_t done, double elapsed_seconds) const {
    return steps != 0 ? done < steps : elapsed_seconds < seconds;
  }
};

/// Simulated.
struct IdealRun {
  std::uint64_t applied = 0;  ///< contributions in the parameters
  std::uint64_t dropped = 0;  ///< those that came too late (backup workers)
  double seconds = 0;         ///< until the last worker ended

  double steps_per_second() const { return static_cast<double>(applied) / seconds; }
};

/// A variant of a parameter server; the delays must be longer than 0.
IdealRun ideal_run(const Variant& variant, const Delays& delays, int workers, RunLength length);

}  // namespace dist::bench
