// SPDX-License-Identifier: Apache-2.0
// Integers to and from little-endian bytes, whatever the processor.
#pragma once

#include <concepts>
#include <cstddef>

namespace dist::wire {

template <std::unsigned_integral T>
constexpr void store(T value, std::byte* to) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    to[i] = static_cast<std::byte>((value >> (8 * i)) & 0xff);
  }
}

template <std::unsigned_integral T>
constexpr T load(const std::byte* from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(static_cast<T>(from[i]) << (8 * i)));
  }
  return value;
}

}  // namespace dist::wire
