// SPDX-License-Identifier: Apache-2.0
#include "libdist/compress/error_feedback.h"

#include <algorithm>

namespace dist {

Result<ErrorFeedback> ErrorFeedback::make(Compression method, const Arena& arena) {
  ErrorFeedback feedback;
  if (!needs_error_feedback(method)) return feedback;
  auto mapped = Mapping::map(bytes_of(arena.elems(), DType::f32), arena.alias_window());
  DIST_TRY_BECAUSE(mapped, "error feedback of the compression");
  feedback.memory_ = *std::move(mapped);
  std::uint64_t end = 0;
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    if (end < arena.range(p).begin) feedback.gaps_.push_back({end, arena.range(p).begin});
    end = arena.range(p).end;
  }
  if (end < arena.elems().value) feedback.gaps_.push_back({end, arena.elems().value});
  return feedback;
}

std::span<float> ErrorFeedback::of(Range range) const {
  if (memory_.bytes().empty()) return {};
  return {reinterpret_cast<float*>(memory_.bytes().data()) + range.begin, range.elems()};
}

void ErrorFeedback::clear_gaps(Range range) const {
  if (memory_.bytes().empty()) return;
  auto gap = std::partition_point(gaps_.begin(), gaps_.end(),
                                  [&](const Range& other) { return other.end <= range.begin; });
  for (; gap != gaps_.end() && gap->begin < range.end; ++gap) {
    std::ranges::fill(of(intersect(*gap, range)), 0.0f);
  }
}

}  // namespace dist
