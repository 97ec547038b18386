// SPDX-License-Identifier: Apache-2.0
// Interleaved rounds: at each size every contestant has its turn in every round, so that a machine
// whose speed drifts treats all alike.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/all_reduce/contestant.h"

namespace dist::bench {

struct ContestRules {
  std::vector<std::uint64_t> bytes;
  std::vector<bool> touched = {false};
  int rounds = 9;
  double turn_ms = 50;
  std::uint64_t memory_bytes = 0;  ///< for all buffers at once
  /// Told what is measured, and the round, from 0.
  std::function<void(const std::string&, int)> progress;
  std::function<bool()> stop;  ///< asked between turns; what was measured until then is kept
};

/// One contestant at one size.
struct Measurement {
  JobSpec spec;
  std::uint64_t bytes = 0;
  bool touched = false;
  double time_us_median = 0;
  double time_us_min = 0;
  std::size_t calls = 0;  ///< timed, over all rounds
  bool correct = false;
  std::string failure;  ///< "" = measured; else nothing but spec, bytes and touched counts
};

/// Bytes per second a rank gets reduced: bytes / time.
double algorithm_bandwidth(const Measurement& measurement);
/// What each rank's link would carry at least: algorithm bandwidth x 2 (ranks - 1) / ranks.
double bus_bandwidth(const Measurement& measurement);

/// Timed calls that fill a turn: at least 1, at most 20,000.
int calls_of_turn(double turn_ms, double call_us);

/// What the contestants keep at once: a buffer a rank and as much again for a library's scratch.
std::uint64_t memory_needed(const std::vector<Contestant*>& contestants, std::uint64_t bytes);

/// Calls on_measured for every contestant at every size, as soon as the size is done. A contestant
/// that fails is ended at once, and its remaining sizes carry the failure.
void hold_contest(const std::vector<Contestant*>& contestants, const ContestRules& rules,
                  const std::function<void(const Measurement&)>& on_measured);

}  // namespace dist::bench
