// SPDX-License-Identifier: Apache-2.0
#include "bench/sweep.h"

#include <fmt/format.h>

#include <algorithm>

namespace dist::bench {
namespace {

// The strategies of one cell, in running order.
std::vector<std::string> cell_strategies(const std::vector<std::string>& strategies, int ranks,
                                         Baseline baseline, bool reversed) {
  std::vector<std::string> order;
  if (baseline == Baseline::all || ranks == 1) order.emplace_back(kIndependent);
  for (const std::string& strategy : strategies) {
    if (strategy != kIndependent) order.push_back(strategy);
  }
  if (reversed) std::reverse(order.begin(), order.end());
  return order;
}

}  // namespace

std::vector<RunSpec> order_runs(const std::vector<std::string>& models,
                                const std::vector<std::string>& strategies,
                                const std::vector<int>& ranks, int repeats, Baseline baseline) {
  std::vector<int> counts = ranks;
  std::sort(counts.begin(), counts.end());
  const bool lone_baseline = std::find(counts.begin(), counts.end(), 1) == counts.end();
  std::vector<RunSpec> runs;
  int cell = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (const std::string& model : models) {
      // S(N) is relative to the independent run of one rank, also where one rank was not asked for.
      if (lone_baseline) runs.push_back({model, kIndependent, 1, repeat});
      for (const int count : counts) {
        for (const auto& strategy : cell_strategies(strategies, count, baseline, cell % 2 == 1)) {
          runs.push_back({model, strategy, count, repeat});
        }
        ++cell;
      }
    }
    // An even number of cells would give every repeat the same order again.
    if (models.size() * counts.size() % 2 == 0) ++cell;
  }
  return runs;
}

std::string run_name(const RunSpec& run) {
  return fmt::format("{}-{}-n{}-r{}", run.model, display_name(run.strategy), run.ranks, run.repeat);
}

std::string display_name(const std::string& strategy) {
  return strategy == kIndependent ? "independent" : strategy;
}

}  // namespace dist::bench
