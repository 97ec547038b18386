// SPDX-License-Identifier: Apache-2.0
// Every type, reduction, number of sources and instruction set against one plain loop, bit by bit.
#include "libdist/memory/reduce.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "libdist/memory/reduce_kernels.h"
#include "tests/support/catch.h"

namespace {

using dist::BFloat16;
using dist::dtype_of;
using dist::Half;
using dist::InstructionSet;
using dist::Reduction;
using dist::usable_instruction_sets;
using dist::kernels::KernelSet;

template <typename T>
constexpr bool kNarrow = std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>;

// What a reduction is computed in.
template <typename T>
using Computed = std::conditional_t<kNarrow<T>, float, T>;

// Uneven numbers; integers use all of their bits.
template <typename T>
std::vector<T> uneven(std::size_t n, std::uint64_t seed) {
  std::vector<T> values(n);
  for (T& value : values) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    if constexpr (std::is_integral_v<T>) {
      value = static_cast<T>(seed >> (64 - 8 * sizeof(T)));
    } else {
      value = T(static_cast<Computed<T>>(static_cast<double>(seed >> 32) / 2e9 - 1.1));
    }
  }
  return values;
}

// In 64 bits, where only the lowest count, so that nothing overflows on the way.
template <typename A>
A combine(A a, A b, Reduction reduction) {
  if (reduction == Reduction::min) return b < a ? b : a;
  if (reduction == Reduction::max) return a < b ? b : a;
  const bool product = reduction == Reduction::product;
  if constexpr (std::is_integral_v<A>) {
    const auto x = static_cast<std::uint64_t>(a);
    const auto y = static_cast<std::uint64_t>(b);
    return static_cast<A>(product ? x * y : x + y);
  } else {
    return product ? a * b : a + b;
  }
}

template <typename T>
std::vector<T> plain(const std::vector<std::vector<T>>& sources, std::size_t first, std::size_t n,
                     Reduction reduction) {
  std::vector<T> expected(n);
  for (std::size_t i = 0; i < n; ++i) {
    auto value = static_cast<Computed<T>>(sources[0][first + i]);
    for (std::size_t s = 1; s < sources.size(); ++s) {
      value = combine(value, static_cast<Computed<T>>(sources[s][first + i]), reduction);
    }
    if (reduction == Reduction::mean) value /= static_cast<Computed<T>>(sources.size());
    expected[i] = T(value);
  }
  return expected;
}

template <typename T>
bool same_bits(const T* a, const T* b, std::size_t n) {
  return n == 0 || std::memcmp(a, b, n * sizeof(T)) == 0;
}

template <typename T>
std::span<std::byte> raw(std::vector<T>& values, std::size_t first, std::size_t n) {
  return std::as_writable_bytes(std::span(values).subspan(first, n));
}

constexpr std::size_t kMargin = 9;  // elements before and after, which must stay

// Reduces [first, first + n) into `out_count` outs; the first is source `aliased` unless that is
// past the sources. Whether all came out right and nothing else was touched.
template <typename T>
bool in_order_is_right(InstructionSet set, const std::vector<std::vector<T>>& sources,
                       std::size_t first, std::size_t n, std::size_t out_count, std::size_t aliased,
                       Reduction reduction) {
  const auto expected = plain(sources, first, n, reduction);
  auto inputs = sources;
  std::vector<std::vector<T>> separate(out_count, uneven<T>(first + n + kMargin, 999));
  std::vector<std::vector<T>*> targets;
  std::vector<std::vector<T>> before;
  std::vector<std::span<std::byte>> outs;
  for (std::size_t m = 0; m < out_count; ++m) {
    targets.push_back(m == 0 && aliased < inputs.size() ? &inputs[aliased] : &separate[m]);
    before.push_back(*targets.back());
    outs.push_back(raw(*targets.back(), first, n));
  }
  std::vector<std::span<const std::byte>> from;
  for (auto& input : inputs) from.push_back(raw(input, first, n));
  dist::kernels::reduce_in_order(set, outs, from, dtype_of<T>, reduction);
  for (std::size_t m = 0; m < out_count; ++m) {
    std::copy(expected.begin(), expected.end(),
              before[m].begin() + static_cast<std::ptrdiff_t>(first));
    if (!same_bits(targets[m]->data(), before[m].data(), before[m].size())) return false;
  }
  for (std::size_t s = 0; s < inputs.size(); ++s) {
    if (s != aliased && !same_bits(inputs[s].data(), sources[s].data(), first + n)) return false;
  }
  return true;
}

template <typename T>
void check_in_order(Reduction reduction) {
  std::vector<std::size_t> lengths = {1021, 2053, 7919};
  for (std::size_t n = 0; n <= 70; ++n) lengths.push_back(n);
  for (const InstructionSet set : usable_instruction_sets()) {
    for (std::size_t source_count = 1; source_count <= 5; ++source_count) {
      for (const std::size_t n : lengths) {
        const std::size_t first = (n + source_count) % kMargin;
        const std::size_t outs = 1 + n % 3;
        const std::size_t aliased = n / 3 % (source_count + 1);
        std::vector<std::vector<T>> sources;
        for (std::size_t s = 0; s < source_count; ++s) {
          sources.push_back(uneven<T>(first + n + kMargin, 100 * n + s));
        }
        if (!in_order_is_right(set, sources, first, n, outs, aliased, reduction)) {
          FAIL(name_of(set) << ", " << name_of(dtype_of<T>) << ", " << name_of(reduction) << ", "
                            << source_count << " sources, " << n << " elements from " << first
                            << ", " << outs << " outs, the first is source " << aliased);
        }
      }
    }
  }
}

template <typename T>
void check_into(Reduction reduction) {
  for (const InstructionSet set : usable_instruction_sets()) {
    for (std::size_t n : {0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 65, 1021, 2053}) {
      const std::size_t first = n % kMargin;
      auto out = uneven<T>(first + n + kMargin, n);
      auto in = uneven<T>(n, n + 1000);
      auto expected = out;
      // Both as sources of a plain reduction; a mean only adds.
      const std::vector<std::vector<T>> both = {
          {out.begin() + static_cast<std::ptrdiff_t>(first), out.end()}, in};
      const auto sum = plain(both, 0, n, reduction == Reduction::mean ? Reduction::sum : reduction);
      std::copy(sum.begin(), sum.end(), expected.begin() + static_cast<std::ptrdiff_t>(first));
      dist::kernels::reduce_into(set, raw(out, first, n), raw(in, 0, n), dtype_of<T>, reduction);
      INFO(name_of(set) << ", " << name_of(dtype_of<T>) << ", " << name_of(reduction) << ", " << n);
      REQUIRE(same_bits(out.data(), expected.data(), out.size()));
    }
  }
}

template <typename T>
void check_divide() {
  for (const InstructionSet set : usable_instruction_sets()) {
    for (const std::uint64_t count : {1u, 2u, 3u, 7u, 1000u}) {
      auto data = uneven<T>(2053, count);
      auto expected = data;
      for (T& value : expected) {
        // Wide enough for every count; only f64 and the 64-bit integers need all of it.
        using Wide =
            std::conditional_t<kNarrow<T>, float,
                               std::conditional_t<std::is_floating_point_v<T>, T,
                                                  std::conditional_t<std::is_signed_v<T>,
                                                                     std::int64_t, std::uint64_t>>>;
        value = T(static_cast<Wide>(value) / static_cast<Wide>(count));
      }
      dist::kernels::divide(set, raw(data, 1, 2051), count, dtype_of<T>);
      expected.front() = data.front();
      expected.back() = data.back();
      INFO(name_of(set) << ", " << name_of(dtype_of<T>) << " / " << count);
      REQUIRE(same_bits(data.data(), expected.data(), data.size()));
    }
  }
}

template <typename T>
void check_type() {
  for (const auto reduction :
       {Reduction::sum, Reduction::mean, Reduction::min, Reduction::max, Reduction::product}) {
    check_in_order<T>(reduction);
    check_into<T>(reduction);
  }
  check_divide<T>();
}

TEST_CASE("floats: every reduction has the bits of a plain loop, on every instruction set") {
  check_type<float>();
  check_type<double>();
}

TEST_CASE("16-bit floats are reduced in float and rounded once") {
  check_type<Half>();
  check_type<BFloat16>();
}

TEST_CASE("integers wrap around and their mean is cut towards zero") {
  check_type<std::int8_t>();
  check_type<std::int16_t>();
  check_type<std::int32_t>();
  check_type<std::int64_t>();
  check_type<std::uint8_t>();
  check_type<std::uint16_t>();
  check_type<std::uint32_t>();
  check_type<std::uint64_t>();
  std::vector<std::int32_t> values = {-7, 7, std::numeric_limits<std::int32_t>::max()};
  dist::divide(raw(values, 0, 3), 2, dist::DType::i32);
  REQUIRE(values == std::vector<std::int32_t>{-3, 3, (1 << 30) - 1});
  dist::reduce_into(raw(values, 2, 1), raw(values, 2, 1), dist::DType::i32, Reduction::product);
  REQUIRE(values[2] == std::numeric_limits<std::int32_t>::min() + 1);
}

// (x + 1) - x is 0 or 1 in float, by the order of the additions.
template <typename T>
void check_order(T big) {
  constexpr std::size_t kElems = 2500;  // several blocks
  std::vector<T> one(kElems, 1), plus(kElems, big), minus(kElems, -big), out(kElems, 7);
  const auto sum = [&](std::vector<std::span<const std::byte>> sources) {
    const auto target = raw(out, 0, kElems);
    dist::reduce_in_order({&target, 1}, sources, dtype_of<T>, Reduction::sum);
  };
  const auto whole = [](std::vector<T>& values) { return raw(values, 0, kElems); };
  sum({whole(one), whole(plus), whole(minus)});
  REQUIRE(out == std::vector<T>(kElems, 0));
  sum({whole(plus), whole(minus), whole(one)});
  REQUIRE(out == std::vector<T>(kElems, 1));
  sum({whole(plus), whole(minus), whole(one), whole(plus), whole(one), whole(minus)});
  REQUIRE(out == std::vector<T>(kElems, 0));
}

TEST_CASE("the sum goes from the first source to the last") {
  check_order<float>(1e20f);
  check_order<double>(1e200);
}

template <typename T>
void check_nan() {
  const auto nan = T(std::numeric_limits<float>::quiet_NaN());
  const auto is_nan = [](T value) {
    const auto number = static_cast<double>(static_cast<Computed<T>>(value));
    return number != number;
  };
  constexpr std::size_t kElems = 67;
  for (const InstructionSet set : usable_instruction_sets()) {
    for (const auto reduction :
         {Reduction::sum, Reduction::mean, Reduction::min, Reduction::max, Reduction::product}) {
      for (std::size_t source_count = 1; source_count <= 5; ++source_count) {
        for (std::size_t wrong = 0; wrong < source_count; ++wrong) {
          std::vector<std::vector<T>> sources(source_count, std::vector<T>(kElems, T(2.0f)));
          for (std::size_t i = 0; i < kElems; i += 3) sources[wrong][i] = nan;
          std::vector<std::span<const std::byte>> from;
          for (auto& source : sources) from.push_back(raw(source, 0, kElems));
          std::vector<T> out(kElems);
          const auto target = raw(out, 0, kElems);
          dist::kernels::reduce_in_order(set, {&target, 1}, from, dtype_of<T>, reduction);
          for (std::size_t i = 0; i < kElems; ++i) {
            INFO(name_of(set) << ", " << name_of(reduction) << ", source " << wrong << " of "
                              << source_count << ", element " << i);
            REQUIRE(is_nan(out[i]) == (i % 3 == 0));
          }
        }
      }
    }
  }
}

TEST_CASE("a NaN of any source is seen in the result, of min and max too") {
  check_nan<float>();
  check_nan<double>();
  check_nan<Half>();
  check_nan<BFloat16>();
}

template <typename T>
void check_conversion(dist::kernels::WidenLoop KernelSet::*widen,
                      dist::kernels::NarrowLoop KernelSet::*narrow) {
  constexpr std::size_t kPatterns = 65536;
  std::vector<T> narrow_values(kPatterns);
  std::vector<float> wide(kPatterns), expected(kPatterns);
  for (std::size_t i = 0; i < kPatterns; ++i) {
    narrow_values[i].bits = static_cast<std::uint16_t>(i);
    expected[i] = static_cast<float>(narrow_values[i]);
  }
  for (const InstructionSet set : usable_instruction_sets()) {
    INFO(name_of(set));
    (dist::kernels::kernels_of(set).*widen)(wide.data(), narrow_values.data(), kPatterns);
    REQUIRE(same_bits(wide.data(), expected.data(), kPatterns));
    // What lies between two narrow numbers as well: every 2^13th float and its neighbours.
    std::vector<T> back(kPatterns), expected_back(kPatterns);
    for (const std::uint32_t low :
         {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x1fffu, 0x7fffu, 0x8000u, 0x8001u}) {
      for (std::size_t i = 0; i < kPatterns; ++i) {
        wide[i] = std::bit_cast<float>(static_cast<std::uint32_t>(i) << 16 ^ low);
        expected_back[i] = T(wide[i]);
      }
      (dist::kernels::kernels_of(set).*narrow)(back.data(), wide.data(), kPatterns);
      REQUIRE(same_bits(back.data(), expected_back.data(), kPatterns));
    }
  }
}

TEST_CASE("every instruction set converts 16-bit floats as types.h does") {
  check_conversion<Half>(&KernelSet::widen_half, &KernelSet::narrow_half);
  check_conversion<BFloat16>(&KernelSet::widen_bfloat16, &KernelSet::narrow_bfloat16);
}

}  // namespace
