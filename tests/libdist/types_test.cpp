// SPDX-License-Identifier: Apache-2.0
#include "libdist/types.h"

#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "tests/support/catch.h"

namespace dist {

static_assert(!std::is_convertible_v<Bytes, Elems> && !std::is_convertible_v<Elems, Bytes>);
static_assert(!std::is_convertible_v<std::uint64_t, Bytes>);
static_assert(!std::is_convertible_v<Bytes, std::uint64_t>);

TEST_CASE("counts add, subtract, scale and compare in 64 bits") {
  Bytes bytes = 3_MiB;
  REQUIRE(bytes.value == 3u << 20);
  bytes += 1_KiB;
  bytes -= 24_B;
  REQUIRE(bytes == Bytes((3u << 20) + 1000));
  REQUIRE(1_MiB * 4096 == Bytes(1ull << 32));
  REQUIRE(1_KiB - 1_B < 1_KiB);
  REQUIRE(1_KiB + 1_B > 1_KiB);
}

template <typename T>
void check_element(DType dtype, int wire_value, std::string_view name) {
  INFO(name);
  CHECK(dtype_of<T> == dtype);
  CHECK(static_cast<int>(dtype) == wire_value);
  CHECK(size_of(dtype) == sizeof(T));
  CHECK(name_of(dtype) == name);
}

TEST_CASE("elements have the size of their type") {
  REQUIRE(bytes_of(Elems(10), DType::f32) == 40_B);
  REQUIRE(bytes_of(Elems(10), DType::f64) == 80_B);
  REQUIRE(bytes_of(Elems(1ull << 32), DType::f32) == Bytes(1ull << 34));
  check_element<float>(DType::f32, 0, "f32");
  check_element<double>(DType::f64, 1, "f64");
  check_element<Half>(DType::f16, 2, "f16");
  check_element<BFloat16>(DType::bf16, 3, "bf16");
  check_element<std::int8_t>(DType::i8, 4, "i8");
  check_element<std::int16_t>(DType::i16, 5, "i16");
  check_element<std::int32_t>(DType::i32, 6, "i32");
  check_element<std::int64_t>(DType::i64, 7, "i64");
  check_element<std::uint8_t>(DType::u8, 8, "u8");
  check_element<std::uint16_t>(DType::u16, 9, "u16");
  check_element<std::uint32_t>(DType::u32, 10, "u32");
  check_element<std::uint64_t>(DType::u64, 11, "u64");
}

// The built-in integers all have a type, whatever std::int64_t is called here.
static_assert(dtype_of<long long> == DType::i64 && dtype_of<unsigned long long> == DType::u64);
static_assert(dtype_of<long> == (sizeof(long) == 8 ? DType::i64 : DType::i32));
static_assert(!Element<bool> && !Element<char> && !Element<long double> && !Element<const float>);

TEST_CASE("reductions have names") {
  REQUIRE(name_of(Reduction::sum) == "sum");
  REQUIRE(name_of(Reduction::mean) == "mean");
  REQUIRE(name_of(Reduction::min) == "min");
  REQUIRE(name_of(Reduction::max) == "max");
  REQUIRE(name_of(Reduction::product) == "product");
}

// What the bits of a 16-bit float say, by the definition of the format.
double value_of(std::uint32_t bits, int mantissa_bits, int bias) {
  const std::uint32_t exponent = (bits & 0x7fffu) >> mantissa_bits;
  const double mantissa = bits & ((1u << mantissa_bits) - 1);
  const double size = exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                    : std::ldexp(mantissa + std::ldexp(1.0, mantissa_bits),
                                                 static_cast<int>(exponent) - bias - mantissa_bits);
  return (bits & 0x8000u) != 0 ? -size : size;
}

// All patterns, and from float what lies exactly between two neighbours and next to that.
template <typename T>
void check_conversions(int mantissa_bits, int bias) {
  const std::uint32_t infinity = 0x7fffu >> mantissa_bits << mantissa_bits;
  const auto from_float = [](float value) -> std::uint32_t { return T(value).bits; };
  const auto to_float = [](std::uint32_t bits) {
    T value;
    value.bits = static_cast<std::uint16_t>(bits);
    return static_cast<float>(value);
  };
  bool right = true;
  for (const std::uint32_t sign : {0u, 0x8000u}) {
    for (std::uint32_t bits = 0; bits < infinity; ++bits) {
      const double value = value_of(sign | bits, mantissa_bits, bias);
      right &= static_cast<double>(to_float(sign | bits)) == value;
      right &= std::signbit(to_float(sign | bits)) == (sign != 0);
      right &= from_float(static_cast<float>(value)) == (sign | bits);
      const auto middle =
          static_cast<float>((value + value_of(sign | (bits + 1), mantissa_bits, bias)) / 2);
      right &= from_float(middle) == (sign | (bits + (bits & 1)));
      right &= from_float(std::nextafter(middle, 0.0f)) == (sign | bits);
      right &= from_float(std::nextafter(middle, 2 * middle)) == (sign | (bits + 1));
    }
    right &= std::isinf(to_float(sign | infinity));
    for (std::uint32_t bits = infinity + 1; bits <= 0x7fffu; ++bits) {
      const std::uint32_t quiet = 1u << (mantissa_bits - 1);
      right &= std::isnan(to_float(sign | bits));
      right &= from_float(to_float(sign | bits)) == (sign | bits | quiet);
    }
  }
  CHECK(right);
  CHECK(from_float(std::numeric_limits<float>::infinity()) == infinity);
  CHECK(from_float(-std::numeric_limits<float>::infinity()) == (infinity | 0x8000u));
  CHECK(from_float(std::numeric_limits<float>::max()) == infinity);
  CHECK(from_float(std::bit_cast<float>(0x7f800001u)) > infinity);  // a NaN of low bits only
  CHECK(from_float(0.0f) == 0);
  CHECK(from_float(-0.0f) == 0x8000u);
}

TEST_CASE("16-bit floats convert exactly and round to nearest even") {
  check_conversions<Half>(10, 15);
  check_conversions<BFloat16>(7, 127);
  static_assert(Half(1.0f).bits == 0x3c00 && static_cast<float>(Half(-2.5f)) == -2.5f);
  static_assert(BFloat16(1.0f).bits == 0x3f80 && static_cast<float>(BFloat16(-2.5f)) == -2.5f);
}

TEST_CASE("the intersection of ranges holds exactly the common elements") {
  constexpr std::uint64_t kEnd = 5;
  for (std::uint64_t a = 0; a <= kEnd; ++a) {
    for (std::uint64_t b = a; b <= kEnd; ++b) {
      for (std::uint64_t c = 0; c <= kEnd; ++c) {
        for (std::uint64_t d = c; d <= kEnd; ++d) {
          const Range common = intersect({a, b}, {c, d});
          std::uint64_t count = 0;
          for (std::uint64_t i = 0; i < kEnd; ++i) {
            const bool in_both = i >= a && i < b && i >= c && i < d;
            count += in_both;
            if (in_both) REQUIRE((i >= common.begin && i < common.end));
          }
          REQUIRE(common.elems() == count);
          REQUIRE(common.empty() == (count == 0));
        }
      }
    }
  }
}

}  // namespace dist
