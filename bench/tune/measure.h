// SPDX-License-Identifier: Apache-2.0
// Times of all-reduces among the ranks of a world, algorithms taking turns.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bench/tune/rows.h"
#include "libdist/world.h"

namespace dist::bench {

struct MeasureOptions {
  std::vector<std::uint64_t> bytes;
  std::vector<allreduce::Algorithm> algorithms;
  int rounds = 15;
  double turn_ms = 5;  ///< of one algorithm, at least one call
};

/// Sums floats among the first `ranks` ranks of the world, over private memory. Every rank of the
/// world calls it; those beyond `ranks` wait and get no timings. A time is that of the slowest
/// rank, per call, the median over the rounds. A wrong sum is an error.
Result<std::vector<Timing>> measure(World& world, int ranks, const MeasureOptions& options);

/// Seconds a byte to reduce one buffer into another, both in the cache; median.
double measure_gamma(int rounds);

}  // namespace dist::bench
