// SPDX-License-Identifier: Apache-2.0
#include "libdist/types.h"

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

TEST_CASE("elements have the size of their type") {
  REQUIRE(bytes_of(Elems(10), DType::f32) == 40_B);
  REQUIRE(bytes_of(Elems(10), DType::f64) == 80_B);
  REQUIRE(bytes_of(Elems(1ull << 32), DType::f32) == Bytes(1ull << 34));
  REQUIRE(dtype_of<float> == DType::f32);
  REQUIRE(dtype_of<double> == DType::f64);
  REQUIRE(name_of(DType::f32) == "f32");
  REQUIRE(name_of(DType::f64) == "f64");
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
