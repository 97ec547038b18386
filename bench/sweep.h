// SPDX-License-Identifier: Apache-2.0
// What a sweep runs and in which order. Pure.
#pragma once

#include <string>
#include <vector>

namespace dist::bench {

/// The strategy of the baseline: every rank trains for itself, nothing is exchanged.
inline constexpr const char* kIndependent = "none";

/// At which rank counts the independent run is made.
enum class Baseline { all, first };

/// One start of the trainer.
struct RunSpec {
  std::string model;
  std::string strategy;
  int ranks = 1;
  int repeat = 0;

  bool operator==(const RunSpec&) const = default;
};

/// Models x ranks x strategies, as often as `repeats` says. Strategies are innermost, so that a
/// machine whose speed drifts does the same to all of them, and their order is reversed from one
/// cell to the next, so that none is always first. The baseline is added where it is missing;
/// with Baseline::first it runs at one rank only.
std::vector<RunSpec> order_runs(const std::vector<std::string>& models,
                                const std::vector<std::string>& strategies,
                                const std::vector<int>& ranks, int repeats, Baseline baseline);

/// "resnet50-ring-n2-r0": names the files of a run.
std::string run_name(const RunSpec& run);

/// The strategy's name for readers: "none" is "independent".
std::string display_name(const std::string& strategy);

}  // namespace dist::bench
