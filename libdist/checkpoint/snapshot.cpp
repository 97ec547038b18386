// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/snapshot.h"

#include <cstring>

namespace dist::checkpoint {

void Snapshot::add(Range range, std::uint64_t version,
                   std::span<const std::span<const std::byte>> arrays, std::uint32_t first_array) {
  if (range.empty()) return;
  std::size_t bytes = 0;
  for (const auto& array : arrays) bytes += array.size();
  auto memory = std::make_unique_for_overwrite<std::byte[]>(bytes);
  Part part{range, version, {}, first_array};
  std::byte* to = memory.get();
  for (const auto& array : arrays) {
    std::memcpy(to, array.data(), array.size());
    part.arrays.emplace_back(to, array.size());
    to += array.size();
  }
  parts_.push_back(std::move(part));
  memory_.push_back(std::move(memory));
}

}  // namespace dist::checkpoint
