// SPDX-License-Identifier: Apache-2.0
// Internal: a value as the bits of an element, for loops that know only sizes.
#pragma once

#include <bit>
#include <cstdint>

#include "libdist/types.h"

namespace dist {

/// `value`, converted to dtype, in the lowest bytes.
constexpr std::uint64_t fill_pattern(DType dtype, double value) {
  switch (dtype) {
    case DType::f32:
      return std::bit_cast<std::uint32_t>(static_cast<float>(value));
    case DType::f64:
      return std::bit_cast<std::uint64_t>(value);
    case DType::f16:
      return Half(static_cast<float>(value)).bits;
    case DType::bf16:
      return BFloat16(static_cast<float>(value)).bits;
    default:
      return value < 0 ? static_cast<std::uint64_t>(static_cast<std::int64_t>(value))
                       : static_cast<std::uint64_t>(value);
  }
}

}  // namespace dist
