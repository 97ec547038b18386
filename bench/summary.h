// SPDX-License-Identifier: Apache-2.0
// Records of a sweep gathered into cells (model, strategy, ranks) with speed-up and efficiency.
// Every formula is in bench/README.md.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bench/record.h"
#include "libdist/status.h"

namespace dist::bench {

/// The repeats of one (model, strategy, ranks).
struct Cell {
  int runs = 0;
  int workers = 1;
  std::uint64_t batch = 0;
  std::uint64_t image = 0;
  double images_per_second = 0;     ///< T(N): mean over the repeats
  double images_per_second_se = 0;  ///< over the repeats, or over the steps of an only run
  double step_ms = 0;
  double exposed_ms = 0;
  double bytes_sent_per_step = 0;
  std::optional<double> speedup;         ///< S(N) = T(N) / T_independent(1)
  double speedup_se = 0;                 ///< errors of both rates
  std::optional<double> efficiency;      ///< S(N) / N
  std::optional<double> of_independent;  ///< T(N) / T_independent(N)
};

struct Summary {     // NOLINT(bugprone-exception-escape): as Record
  std::string kind;  ///< measured or emulated
  std::string accelerator;
  std::string backend;
  std::string transport;
  std::uint64_t batch = 0;              ///< per worker, of the first record
  std::vector<std::string> models;      ///< in order of appearance
  std::vector<std::string> strategies;  ///< known ones in fixed order, then others; no baseline
  std::vector<int> ranks;               ///< ascending
  std::map<std::tuple<std::string, std::string, int>, Cell> cells;
  nlohmann::json provenance;  ///< of the last record

  const Cell* find(const std::string& model, const std::string& strategy, int count) const;
};

/// Gathers records. Measured and emulated ones do not mix: that is an error, as is an empty list.
Result<Summary> summarise(const std::vector<Record>& records);

}  // namespace dist::bench
