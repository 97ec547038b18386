// SPDX-License-Identifier: Apache-2.0
// What a reduction does to two values, and a mean at its end: for the host's loops and the GPU's
// alike.
#pragma once

#include <cstdint>
#include <type_traits>

#include "libdist/types.h"

namespace dist::kernels {

// Where integers wrap around without undefined behaviour, promotion included.
template <typename T>
using Wrapping = std::conditional_t<sizeof(T) <= 4, std::uint32_t, std::uint64_t>;

struct Sum {
  template <typename T>
  [[gnu::always_inline]] static constexpr T of(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
    } else {
      return a + b;
    }
  }
};

struct Product {
  template <typename T>
  [[gnu::always_inline]] static constexpr T of(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
    } else {
      return a * b;
    }
  }
};

// A NaN is less than nothing: comparison prefers b, the second test brings back a.
struct Min {
  template <typename T>
  [[gnu::always_inline]] static constexpr T of(T a, T b) {
    return a < b || a != a ? a : b;
  }
};

struct Max {
  template <typename T>
  [[gnu::always_inline]] static constexpr T of(T a, T b) {
    return a > b || a != a ? a : b;
  }
};

/// Divides by a count. Integers in 64 bits: the count need not fit in a narrow type.
template <typename T>
struct Divisor {
  using Wide =
      std::conditional_t<std::is_floating_point_v<T>, T,
                         std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;
  Wide count;

  constexpr explicit Divisor(std::uint64_t n) : count(static_cast<Wide>(n)) {}
  [[gnu::always_inline]] constexpr T operator()(T value) const {
    return static_cast<T>(static_cast<Wide>(value) / count);
  }
};

}  // namespace dist::kernels
