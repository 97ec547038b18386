// SPDX-License-Identifier: Apache-2.0
#include "libdist/compress/error_feedback.h"

namespace dist {

Result<ErrorFeedback> ErrorFeedback::make(Compression method, const Arena& arena) {
  ErrorFeedback feedback;
  if (!needs_error_feedback(method)) return feedback;
  auto mapped = Mapping::map(bytes_of(arena.elems(), DType::f32), arena.alias_window());
  DIST_TRY_BECAUSE(mapped, "error feedback of the compression");
  feedback.memory_ = *std::move(mapped);
  return feedback;
}

std::span<float> ErrorFeedback::of(Range range) const {
  if (memory_.bytes().empty()) return {};
  return {reinterpret_cast<float*>(memory_.bytes().data()) + range.begin, range.elems()};
}

}  // namespace dist
