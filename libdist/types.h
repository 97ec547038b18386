// SPDX-License-Identifier: Apache-2.0
// The few words everything else is spelled with: ranks, counts with units, element types.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace dist {

/// Position of a process (or of a thread standing in for one) in its world: 0 .. ranks - 1.
using Rank = int;

/// The clock of all deadlines and times.
using Clock = std::chrono::steady_clock;
/// A moment on it.
using TimePoint = Clock::time_point;
/// Nanoseconds.
using Duration = std::chrono::nanoseconds;

/// A 64-bit count that does not convert silently into a count of something else.
template <typename Unit>
struct Count {
  std::uint64_t value = 0;  ///< the bare number

  constexpr Count() = default;
  /// So many.
  constexpr explicit Count(std::uint64_t v) : value(v) {}
  /// As numbers.
  constexpr auto operator<=>(const Count&) const = default;
  /// Wraps around as unsigned numbers do, as all of these.
  constexpr Count& operator+=(Count other) {
    value += other.value;
    return *this;
  }
  /// The other is not larger.
  constexpr Count& operator-=(Count other) {
    value -= other.value;
    return *this;
  }
  /// Sum.
  friend constexpr Count operator+(Count a, Count b) { return Count(a.value + b.value); }
  /// Difference.
  friend constexpr Count operator-(Count a, Count b) { return Count(a.value - b.value); }
  /// So many of them.
  friend constexpr Count operator*(Count a, std::uint64_t times) { return Count(a.value * times); }
};

/// A number of bytes.
using Bytes = Count<struct BytesUnit>;
/// A number of elements, of whatever type.
using Elems = Count<struct ElemsUnit>;

/// 1_B: bytes.
constexpr Bytes operator""_B(unsigned long long v) { return Bytes(v); }
/// 1_KiB: 1024 bytes.
constexpr Bytes operator""_KiB(unsigned long long v) { return Bytes(v << 10); }
/// 1_MiB: 1024 KiB.
constexpr Bytes operator""_MiB(unsigned long long v) { return Bytes(v << 20); }

/// A 16-bit float as IEEE 754 binary16 has it: 11 bits of precision, largest finite value 65504. A
/// storage type: arithmetic happens in float.
struct Half {
  std::uint16_t bits = 0;  ///< sign, 5 of the exponent, 10 of the fraction

  constexpr Half() = default;
  /// Rounds to nearest, ties to even; beyond the largest value becomes infinity; NaN stays NaN.
  constexpr explicit Half(float value) : bits(round(value)) {}
  /// Exact; a signalling NaN becomes quiet.
  constexpr explicit operator float() const;

 private:
  static constexpr std::uint16_t round(float value);
};

/// A 16-bit float with the exponent of binary32: the upper half of a float, 8 bits of precision. A
/// storage type: arithmetic happens in float.
struct BFloat16 {
  std::uint16_t bits = 0;  ///< sign, 8 of the exponent, 7 of the fraction

  constexpr BFloat16() = default;
  /// Rounds to nearest, ties to even; beyond the largest value becomes infinity; NaN stays NaN.
  constexpr explicit BFloat16(float value) : bits(round(value)) {}
  /// Exact.
  constexpr explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  static constexpr std::uint16_t round(float value);
};

// The conversions select instead of branching and compare signed numbers: a vector unit has both.

constexpr Half::operator float() const {
  constexpr std::int32_t kInfinity = 0x7c00 << 13;
  constexpr std::int32_t kQuiet = 1 << 22;
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::int32_t shifted = (bits & 0x7fff) << 13;
  // The exponents' biases differ by 112. A subnormal has no leading one: adding 2^-14 gives it one,
  // and subtracting it as a float normalises.
  const std::int32_t normal = shifted + (112 << 23);
  const auto subnormal = std::bit_cast<std::int32_t>(std::bit_cast<float>(shifted + (113 << 23)) -
                                                     std::bit_cast<float>(113 << 23));
  const std::int32_t special = (shifted + (224 << 23)) | (shifted > kInfinity ? kQuiet : 0);
  const std::int32_t finite = shifted < (1 << 23) ? subnormal : normal;
  const std::int32_t size = shifted >= kInfinity ? special : finite;
  return std::bit_cast<float>(sign | static_cast<std::uint32_t>(size));
}

constexpr std::uint16_t Half::round(float value) {
  constexpr std::int32_t kInfinity = 0x7f800000;
  constexpr std::int32_t kOverflow = 0x477ff000;  // 65520: rounds to infinity, as all above
  constexpr std::int32_t kSmallestNormal = 113 << 23;
  const auto all = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::int32_t>(all >> 16 & 0x8000u);
  const auto size = static_cast<std::int32_t>(all & 0x7fffffffu);
  // 13 bits go; just below a half is added, and one more where the last kept bit is odd.
  const std::int32_t normal = (size - (112 << 23) + 0xfff + (size >> 13 & 1)) >> 13;
  // At 0.5 the last bit of a float weighs 2^-24 as that of a subnormal does: the addition rounds.
  const auto subnormal =
      std::bit_cast<std::int32_t>(std::bit_cast<float>(size) + 0.5f) - (126 << 23);
  const std::int32_t nan = 0x7e00 | (size >> 13 & 0x3ff);
  const std::int32_t finite = size < kSmallestNormal ? subnormal : normal;
  const std::int32_t special = size > kInfinity ? nan : 0x7c00;
  return static_cast<std::uint16_t>(sign | (size >= kOverflow ? special : finite));
}

constexpr std::uint16_t BFloat16::round(float value) {
  constexpr std::int32_t kInfinity = 0x7f800000;
  const auto all = std::bit_cast<std::uint32_t>(value);
  const auto size = static_cast<std::int32_t>(all & 0x7fffffffu);
  const auto rounded = (all + 0x7fffu + (all >> 16 & 1u)) >> 16;
  const auto nan = all >> 16 | 0x40u;
  return static_cast<std::uint16_t>(size > kInfinity ? nan : rounded);
}

/// Element type of a buffer. The values go over the wire.
enum class DType : std::uint8_t {
  f32 = 0,
  f64 = 1,
  f16 = 2,
  bf16 = 3,
  i8 = 4,
  i16 = 5,
  i32 = 6,
  i64 = 7,
  u8 = 8,
  u16 = 9,
  u32 = 10,
  u64 = 11,
};

/// How many element types there are.
inline constexpr std::size_t kDTypes = 12;

/// Bytes of one element.
constexpr std::uint64_t size_of(DType dtype) {
  constexpr std::array<std::uint8_t, kDTypes> kBytes = {4, 8, 2, 2, 1, 2, 4, 8, 1, 2, 4, 8};
  return kBytes[static_cast<std::size_t>(dtype)];
}
/// Bytes of so many elements.
constexpr Bytes bytes_of(Elems elems, DType dtype) { return Bytes(elems.value * size_of(dtype)); }
/// "f32", "bf16", "u8", ...
constexpr std::string_view name_of(DType dtype) {
  constexpr std::array<std::string_view, kDTypes> kNames = {
      "f32", "f64", "f16", "bf16", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"};
  return kNames[static_cast<std::size_t>(dtype)];
}

/// The types that a parameter may have: the update needs their range and precision.
constexpr bool can_train(DType dtype) { return dtype == DType::f32 || dtype == DType::f64; }

/// The C++ types that have a DType. bool and the character types have none: say std::uint8_t.
template <typename T>
concept Element = std::same_as<T, Half> || std::same_as<T, BFloat16> || std::same_as<T, float> ||
    std::same_as<T, double> || std::same_as<T, signed char> || std::same_as<T, unsigned char> ||
    (std::integral<T> && sizeof(T) > 1 && !std::same_as<T, wchar_t> && !std::same_as<T, char16_t> &&
     !std::same_as<T, char32_t>);

namespace detail {
template <Element T>
consteval DType find_dtype() {
  if (std::same_as<T, float>) return DType::f32;
  if (std::same_as<T, double>) return DType::f64;
  if (std::same_as<T, Half>) return DType::f16;
  if (std::same_as<T, BFloat16>) return DType::bf16;
  const auto first = std::is_signed_v<T> ? DType::i8 : DType::u8;
  return static_cast<DType>(static_cast<int>(first) + std::countr_zero(sizeof(T)));
}
}  // namespace detail

/// The DType of a C++ type.
template <Element T>
inline constexpr DType dtype_of = detail::find_dtype<T>();

/// How the contributions of ranks become one value. Integers wrap around as unsigned ones do. mean
/// is the sum divided by the number of contributions at the end; integers are cut towards zero.
/// min and max are NaN where any contribution is.
enum class Reduction : std::uint8_t { sum = 0, mean = 1, min = 2, max = 3, product = 4 };

/// "sum", "mean", ...
constexpr std::string_view name_of(Reduction reduction) {
  constexpr std::array<std::string_view, 5> kNames = {"sum", "mean", "min", "max", "product"};
  return kNames[static_cast<std::size_t>(reduction)];
}

/// A half-open range of elements of an arena (or of whatever the owner names).
struct Range {
  std::uint64_t begin = 0;  ///< the first element
  std::uint64_t end = 0;    ///< one past the last

  /// How many elements.
  constexpr std::uint64_t elems() const { return end - begin; }
  /// Whether there is none.
  constexpr bool empty() const { return begin == end; }
  /// The same two ends.
  constexpr bool operator==(const Range&) const = default;
};

/// The part of `a` that also lies in `b`; empty (begin == end) when they do not meet.
constexpr Range intersect(Range a, Range b) {
  const auto begin = a.begin > b.begin ? a.begin : b.begin;
  const auto end = a.end < b.end ? a.end : b.end;
  return begin < end ? Range{begin, end} : Range{begin, begin};
}

}  // namespace dist
