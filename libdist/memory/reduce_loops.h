// SPDX-License-Identifier: Apache-2.0
// The loops themselves, once, in the form that instruction_set.h compiles.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libdist/memory/instruction_set.h"
#include "libdist/memory/reduce_operations.h"
#include "libdist/types.h"

namespace dist::kernels {

template <typename Operation, typename T>
struct Pair {
  [[gnu::always_inline]] static void run(void* out_bytes, const void* a_bytes, const void* b_bytes,
                                         std::size_t elems) {
    auto* out = static_cast<T*>(out_bytes);
    const auto* a = static_cast<const T*>(a_bytes);
    const auto* b = static_cast<const T*>(b_bytes);
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) out[i] = Operation::of(a[i], b[i]);
  }
};

template <typename T, std::size_t kSources, std::size_t kOuts, bool kMean>
struct SumFold {
  [[gnu::always_inline]] static void run(void* const* outs, const void* const* sources,
                                         std::size_t elems, std::uint64_t count) {
    const auto* a = static_cast<const T*>(sources[0]);
    const auto* b = static_cast<const T*>(sources[1]);
    const auto* c = static_cast<const T*>(sources[kSources > 2 ? 2 : 0]);
    const auto* d = static_cast<const T*>(sources[kSources > 3 ? 3 : 0]);
    auto* out = static_cast<T*>(outs[0]);
    auto* second_out = static_cast<T*>(outs[kOuts - 1]);
    const T divisor = static_cast<T>(count);
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) {
      T sum = a[i] + b[i];
      if constexpr (kSources > 2) sum += c[i];
      if constexpr (kSources > 3) sum += d[i];
      if constexpr (kMean) sum /= divisor;
      out[i] = sum;
      if constexpr (kOuts > 1) second_out[i] = sum;
    }
  }
};

template <typename T>
struct Divide {
  [[gnu::always_inline]] static void run(void* bytes, std::size_t elems, std::uint64_t count) {
    auto* data = static_cast<T*>(bytes);
    const Divisor<T> divided(count);
    for (std::size_t i = 0; i < elems; ++i) data[i] = divided(data[i]);
  }
};

template <typename T>
struct Widen {
  [[gnu::always_inline]] static void run(float* out, const void* in_bytes, std::size_t elems) {
    const auto* in = static_cast<const T*>(in_bytes);
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) out[i] = static_cast<float>(in[i]);
  }
};

template <typename T>
struct Narrow {
  [[gnu::always_inline]] static void run(void* out_bytes, const float* in, std::size_t elems) {
    auto* out = static_cast<T*>(out_bytes);
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) out[i] = T(in[i]);
  }
};

}  // namespace dist::kernels
