// SPDX-License-Identifier: Apache-2.0
// From measured times to the rows of a choice table.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "allreduce/choice.h"

namespace dist::bench {

/// One algorithm's time for an all-reduce.
struct Timing {
  int ranks = 2;
  std::uint64_t bytes = 0;
  allreduce::Algorithm algorithm = allreduce::Algorithm::ring;
  double seconds = 0;
};

/// A challenger must be this much faster to take over from the algorithm of the next smaller size:
/// less is noise, and a table should not flicker.
inline constexpr double kClearlyFaster = 0.95;

/// `base` and, behind it, rows for `transport`: for each measured rank count the fastest algorithm
/// from 0 bytes on, then a row wherever another one is clearly faster. Sizes between two measured
/// ones go by the smaller one.
allreduce::ChoiceTable table_from(std::span<const Timing> timings, const std::string& transport,
                                  allreduce::ChoiceTable base);

}  // namespace dist::bench
