// SPDX-License-Identifier: Apache-2.0
// Medians, ratios and the project's goals for one GPU. Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/gpu/outcome.h"
#include "bench/gpu/peak.h"

namespace dist::bench::gpu {

/// Images a second, the median over the ok runs that `takes` picks; nothing where there are none.
std::optional<double> median_rate(const std::vector<Outcome>& outcomes,
                                  const std::function<bool(const Run&)>& takes);

/// Our trainer and the peer side by side, on the same model, precision and batch.
struct Duel {
  std::string model;
  std::string precision;
  std::string mode;   ///< of the peer
  double ours = 0;    ///< median images/s over all our runs of section peers
  double theirs = 0;  ///< median images/s in this mode
  int runs_ours = 0;
  int runs_theirs = 0;

  double ratio() const { return ours / theirs; }
};

/// In the order of the runs; duels of which one side is missing are left out.
std::vector<Duel> duels(const std::vector<Outcome>& outcomes);

/// Median step with the strategy ring on one rank over the median step with none, minus 1.
std::optional<double> overhead(const std::vector<Outcome>& outcomes);

struct Goal {
  std::string what;
  double wanted = 0;
  bool at_most = false;         ///< else at least
  std::optional<double> value;  ///< nothing: not measured
  std::string format = "{:.2f}";

  bool met() const { return value && (at_most ? *value <= wanted : *value >= wanted); }
  std::string verdict() const { return met() ? "met" : value ? "below goal" : "not measured"; }
};

/// The absolute ones hold for an H200 and are left out on any other device.
std::vector<Goal> goals(const std::vector<Outcome>& outcomes, const std::vector<ModelFacts>& models,
                        const std::string& device_name);

}  // namespace dist::bench::gpu
