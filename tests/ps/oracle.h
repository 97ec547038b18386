// SPDX-License-Identifier: Apache-2.0
// Integer gradients: worker w adds to element w of every parameter, so that the end tells how often
// each of its pushes was applied.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/ranks.h"

namespace dist::test {

inline constexpr std::size_t kOracleWorkers = 8;
inline constexpr std::size_t kOracleParameters = 13;

/// Small parameters, a piece each, on all servers; and a large one that takes a while to send.
inline Arena oracle_arena() {
  std::vector<Parameter> list;
  for (std::size_t p = 0; p + 1 < kOracleParameters; ++p) {
    list.push_back({fmt::format("p{}", p), Elems(16)});
  }
  list.push_back({"large", Elems(60'000)});
  return Arena::create(std::move(list)).value();
}

inline Options oracle_options() {
  Options options;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 64_B;
  options.timeout = std::chrono::seconds(30);
  return options;
}

inline UpdateRule oracle_rule() { return Sgd{.learning_rate = 1}; }

/// The backward pass; `amount` is what is added to the worker's element.
inline void contribute(Strategy& strategy, const Arena& arena, float amount) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    const auto gradient = arena.gradient_span<float>(p);
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    gradient[static_cast<std::size_t>(strategy.worker())] = -amount;
    strategy.ready(p);
  }
}

/// counts[p][w]: what worker w added to parameter p.
using OracleCounts = std::array<std::array<float, kOracleWorkers>, kOracleParameters>;

inline OracleCounts read_counts(const Arena& arena) {
  OracleCounts counts{};
  for (std::size_t p = 0; p < kOracleParameters; ++p) {
    const auto values = arena.parameter_span<float>(p);
    std::copy_n(values.begin(), kOracleWorkers, counts[p].begin());
    for (std::size_t i = kOracleWorkers; i < values.size(); ++i) {
      expect(values[i] == 0, "an element that nobody adds to");
    }
  }
  return counts;
}

/// Whether a worker that saw `before` may see `now`: nothing is ever taken back.
inline bool never_less(const OracleCounts& before, const OracleCounts& now) {
  for (std::size_t p = 0; p < kOracleParameters; ++p) {
    for (std::size_t w = 0; w < kOracleWorkers; ++w) {
      if (now[p][w] < before[p][w]) return false;
    }
  }
  return true;
}

/// How many versions old a bounded worker's gradient can be: while it is between two pulls each of
/// the others goes from s steps behind it to s steps ahead of it, and pushes once more.
inline std::uint64_t staleness_limit(int workers, std::uint64_t steps_ahead) {
  return static_cast<std::uint64_t>(workers - 1) * (2 * steps_ahead + 2);
}

}  // namespace dist::test
