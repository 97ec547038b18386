// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/reduce.h"

#include <cstring>
#include <vector>

#include "tests/support/catch.h"

namespace {

using dist::dtype_of;

template <typename T>
std::span<std::byte> raw(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

template <typename T>
std::vector<T> counting(std::size_t n, int start) {
  std::vector<T> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<T>(start) + static_cast<T>(i);
  return values;
}

template <typename T>
void check_kernels() {
  for (const std::size_t n : {0, 1, 2, 3, 7, 8, 15, 16, 17, 1023, 1024, 1025, 5000}) {
    INFO(n << " elements");
    auto a = counting<T>(n, 1);
    auto b = counting<T>(n, 100);
    const auto a_before = a;
    dist::add_into(raw(a), raw(b), dtype_of<T>);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(a[i] == a_before[i] + b[i]);

    dist::scale(raw(b), 0.5, dtype_of<T>);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(b[i] == (static_cast<T>(100 + i)) / 2);
  }
}

TEST_CASE("sums and products of integers are exact at every length") {
  check_kernels<float>();
  check_kernels<double>();
}

TEST_CASE("spans that begin at any element are added right and nothing beside them is touched") {
  for (std::size_t offset = 0; offset <= 8; ++offset) {
    auto a = counting<float>(100, 0);
    auto b = counting<float>(100, 1000);
    const std::size_t n = 50 + offset;
    dist::add_into(raw(a).subspan(offset * sizeof(float), n * sizeof(float)),
                   raw(b).subspan((8 - offset) * sizeof(float), n * sizeof(float)),
                   dist::DType::f32);
    for (std::size_t i = 0; i < 100; ++i) {
      const bool inside = i >= offset && i < offset + n;
      const auto own = static_cast<float>(i);
      REQUIRE(a[i] == (inside ? own + b[8 - offset + (i - offset)] : own));
    }
  }
}

// (x + 1) - x is 0 or 1 in float, by the order of the additions.
template <typename T>
void check_order(T big) {
  constexpr std::size_t kElems = 2500;  // several blocks
  std::vector<T> one(kElems, 1);
  std::vector<T> plus(kElems, big);
  std::vector<T> minus(kElems, -big);
  std::vector<T> out(kElems, 7);
  const auto sum = [&](std::vector<std::span<const std::byte>> sources, std::vector<T>& target) {
    dist::sum_in_order(raw(target), sources, dtype_of<T>);
  };
  sum({raw(one), raw(plus), raw(minus)}, out);
  REQUIRE(out == std::vector<T>(kElems, 0));
  sum({raw(plus), raw(minus), raw(one)}, out);
  REQUIRE(out == std::vector<T>(kElems, 1));
  sum({raw(one)}, out);
  REQUIRE(out == one);

  // The result may replace any of the summands.
  auto first = plus;
  sum({raw(first), raw(minus), raw(one)}, first);
  REQUIRE(first == std::vector<T>(kElems, 1));
  auto last = one;
  sum({raw(plus), raw(minus), raw(last)}, last);
  REQUIRE(last == std::vector<T>(kElems, 1));
}

TEST_CASE("sum_in_order adds from the first source to the last") {
  check_order<float>(1e20f);
  check_order<double>(1e200);
}

}  // namespace
