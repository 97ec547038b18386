// SPDX-License-Identifier: Apache-2.0
// The few words everything else is spelled with: ranks, counts with units, element types.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace dist {

/// Position of a process (or of a thread standing in for one) in its world: 0 .. ranks - 1.
using Rank = int;

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;

/// A 64-bit count that does not convert silently into a count of something else.
template <typename Unit>
struct Count {
  std::uint64_t value = 0;

  constexpr Count() = default;
  constexpr explicit Count(std::uint64_t v) : value(v) {}
  constexpr auto operator<=>(const Count&) const = default;
  constexpr Count& operator+=(Count other) {
    value += other.value;
    return *this;
  }
  constexpr Count& operator-=(Count other) {
    value -= other.value;
    return *this;
  }
  friend constexpr Count operator+(Count a, Count b) { return Count(a.value + b.value); }
  friend constexpr Count operator-(Count a, Count b) { return Count(a.value - b.value); }
  friend constexpr Count operator*(Count a, std::uint64_t times) { return Count(a.value * times); }
};

using Bytes = Count<struct BytesUnit>;
using Elems = Count<struct ElemsUnit>;

constexpr Bytes operator""_B(unsigned long long v) { return Bytes(v); }
constexpr Bytes operator""_KiB(unsigned long long v) { return Bytes(v << 10); }
constexpr Bytes operator""_MiB(unsigned long long v) { return Bytes(v << 20); }

/// Element type of parameters and gradients.
enum class DType : std::uint8_t { f32 = 0, f64 = 1 };

constexpr std::uint64_t size_of(DType dtype) { return dtype == DType::f64 ? 8 : 4; }
constexpr Bytes bytes_of(Elems elems, DType dtype) { return Bytes(elems.value * size_of(dtype)); }
constexpr std::string_view name_of(DType dtype) { return dtype == DType::f64 ? "f64" : "f32"; }

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <typename T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

/// A half-open range of elements of an arena (or of whatever the owner names).
struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  constexpr std::uint64_t elems() const { return end - begin; }
  constexpr bool empty() const { return begin == end; }
  constexpr bool operator==(const Range&) const = default;
};

/// The part of `a` that also lies in `b`; empty (begin == end) when they do not meet.
constexpr Range intersect(Range a, Range b) {
  const auto begin = a.begin > b.begin ? a.begin : b.begin;
  const auto end = a.end < b.end ? a.end : b.end;
  return begin < end ? Range{begin, end} : Range{begin, begin};
}

}  // namespace dist
