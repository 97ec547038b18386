// SPDX-License-Identifier: Apache-2.0
#include "bench/tune/rows.h"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

namespace dist::bench {
namespace {

const Timing* find(const std::vector<Timing>& timings, allreduce::Algorithm algorithm) {
  const auto at = std::find_if(timings.begin(), timings.end(),
                               [&](const Timing& t) { return t.algorithm == algorithm; });
  return at == timings.end() ? nullptr : &*at;
}

}  // namespace

allreduce::ChoiceTable table_from(std::span<const Timing> timings, const std::string& transport,
                                  allreduce::ChoiceTable base) {
  std::map<int, std::map<std::uint64_t, std::vector<Timing>>> sorted;
  for (const Timing& timing : timings) sorted[timing.ranks][timing.bytes].push_back(timing);
  for (const auto& [ranks, sizes] : sorted) {
    std::optional<allreduce::Algorithm> last;
    for (const auto& [bytes, candidates] : sizes) {
      const Timing& best =
          *std::min_element(candidates.begin(), candidates.end(),
                            [](const Timing& a, const Timing& b) { return a.seconds < b.seconds; });
      const Timing* before = last ? find(candidates, *last) : nullptr;
      if (before != nullptr && best.seconds > kClearlyFaster * before->seconds) continue;
      base.push_back({transport, ranks, Bytes(last ? bytes : 0), best.algorithm});
      last = best.algorithm;
    }
  }
  return base;
}

}  // namespace dist::bench
