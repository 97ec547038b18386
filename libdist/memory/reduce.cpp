// SPDX-License-Identifier: Apache-2.0
// Plain loops that the compiler vectorises; memory is the limit, not arithmetic.
#include "libdist/memory/reduce.h"

#include <algorithm>
#include <array>

#include "libdist/check.h"

namespace dist {
namespace {

// The accumulator of sum_in_order: small enough for the first-level cache.
constexpr std::size_t kBlockElems = 1024;

template <typename T>
void add(T* __restrict out, const T* __restrict in, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] += in[i];
}

template <typename T>
void sum_block(T* out, std::span<const std::span<const std::byte>> sources, std::size_t first,
               std::size_t n) {
  // A local accumulator, because out may be one of the sources.
  std::array<T, kBlockElems> sum;
  const auto source = [&](std::size_t s) {
    return reinterpret_cast<const T*>(sources[s].data()) + first;
  };
  std::copy_n(source(0), n, sum.data());
  for (std::size_t s = 1; s < sources.size(); ++s) add(sum.data(), source(s), n);
  std::copy_n(sum.data(), n, out + first);
}

template <typename T>
void sum_all(std::span<std::byte> out, std::span<const std::span<const std::byte>> sources) {
  const auto n = out.size() / sizeof(T);
  for (std::size_t first = 0; first < n; first += kBlockElems) {
    sum_block(reinterpret_cast<T*>(out.data()), sources, first, std::min(kBlockElems, n - first));
  }
}

template <typename T>
void multiply(std::span<std::byte> data, T factor) {
  auto* at = reinterpret_cast<T*>(data.data());
  for (std::size_t i = 0; i < data.size() / sizeof(T); ++i) at[i] *= factor;
}

}  // namespace

void add_into(std::span<std::byte> out, std::span<const std::byte> in, DType dtype) {
  DIST_ASSERT(out.size() == in.size(), "add_into: the spans differ in size");
  DIST_ASSERT(out.size() % size_of(dtype) == 0, "add_into: not whole elements");
  const auto n = out.size() / size_of(dtype);
  if (dtype == DType::f64) {
    add(reinterpret_cast<double*>(out.data()), reinterpret_cast<const double*>(in.data()), n);
  } else {
    add(reinterpret_cast<float*>(out.data()), reinterpret_cast<const float*>(in.data()), n);
  }
}

void sum_in_order(std::span<std::byte> out, std::span<const std::span<const std::byte>> sources,
                  DType dtype) {
  DIST_ASSERT(!sources.empty(), "sum_in_order: there is nothing to sum");
  DIST_ASSERT(out.size() % size_of(dtype) == 0, "sum_in_order: not whole elements");
  for (const auto& source : sources) {
    DIST_ASSERT(source.size() == out.size(), "sum_in_order: the spans differ in size");
  }
  if (dtype == DType::f64) {
    sum_all<double>(out, sources);
  } else {
    sum_all<float>(out, sources);
  }
}

void scale(std::span<std::byte> data, double factor, DType dtype) {
  DIST_ASSERT(data.size() % size_of(dtype) == 0, "scale: not whole elements");
  if (dtype == DType::f64) {
    multiply<double>(data, factor);
  } else {
    multiply<float>(data, static_cast<float>(factor));
  }
}

}  // namespace dist
