// SPDX-License-Identifier: Apache-2.0
// How long emulated workers compute: a pure function of worker and step, so that all policies meet
// the same delays.
#pragma once

#include <cstdint>

namespace dist::bench {

struct Delays {
  double compute_ms = 0;   ///< of an ordinary step
  double slow_worker = 1;  ///< the last worker's steps are so many times longer
  bool slow_step = false;  ///< every worker's step is kSlowStep times longer with probability 1/10
  std::uint64_t seed = 1;

  static constexpr double kSlowStep = 5;

  double ms(int worker, int workers, std::uint64_t step) const;
};

}  // namespace dist::bench
