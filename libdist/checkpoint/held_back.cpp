// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/held_back.h"

#include <array>

namespace dist::checkpoint {

void add_held_back(Snapshot* snapshot, std::uint32_t array, Range range, std::uint64_t steps,
                   const ErrorFeedback& feedback) {
  const auto values = feedback.of(range);
  if (values.empty()) return;
  const std::array<std::span<const std::byte>, 1> bytes = {std::as_bytes(values)};
  snapshot->add(range, steps, bytes, array);
}

Status load_held_back(const Source& source, std::uint32_t array, Range range,
                      const ErrorFeedback& feedback) {
  const auto values = feedback.of(range);
  if (values.empty() || !source.has(array)) return {};
  return source.read(range, array, std::as_writable_bytes(values)).because("resume");
}

}  // namespace dist::checkpoint
