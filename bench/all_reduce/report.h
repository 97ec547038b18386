// SPDX-License-Identifier: Apache-2.0
// Measurements as records, tables of times, and ratios worded like the project's goals.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/all_reduce/contest.h"

namespace dist::bench {

/// record="all_reduce", or record="failure" with the reason. `provenance` is copied into it.
nlohmann::json to_record(const Measurement& measurement, const nlohmann::json& provenance);

/// libdist in one configuration at one size against what was measured beside it. Ratios are of
/// times: below 1 libdist is faster. Absent where one of the two was not measured.
struct Comparison {
  Measurement ours;
  std::optional<Measurement> best_default;  ///< fastest peer in its default configuration
  std::optional<Measurement> best_tuned;    ///< fastest peer with the heap kept
  std::optional<Measurement> limit;         ///< fastest of sweep, plain TCP ring, wire time

  std::optional<double> of_default() const;  ///< time of libdist / time of best_default
  std::optional<double> of_tuned() const;
  std::optional<double> limit_reached() const;  ///< time of limit / time of libdist
};

/// One for every correct measurement of libdist, in their order. Wrong or failed ones of others do
/// not count.
std::vector<Comparison> compare(const std::vector<Measurement>& measurements);

/// Median times: one table a contest, rank count and mode; a row a contestant, a column a size.
std::string time_tables(const std::vector<Measurement>& measurements);

/// The ratios as one table.
std::string ratio_table(const std::vector<Comparison>& comparisons);

/// What the numbers mean, with formulas.
std::string formulas();

/// "1.05 us", "8.80 ms", "1.20 s": three digits.
std::string time_text(double us);

}  // namespace dist::bench
