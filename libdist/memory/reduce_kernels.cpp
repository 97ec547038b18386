// SPDX-License-Identifier: Apache-2.0
// The tables: every loop once for each instruction set.
#include "libdist/memory/reduce_kernels.h"

#include <array>
#include <cstdint>

#include "libdist/memory/reduce_loops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dist::kernels {
namespace {

// f16 by the compiler's vectors of types.h's conversions ...
template <typename Path>
struct HalfLoops {
  static constexpr WidenLoop kWiden =
      &Path::template run<Widen<Half>, float*, const void*, std::size_t>;
  static constexpr NarrowLoop kNarrow =
      &Path::template run<Narrow<Half>, void*, const float*, std::size_t>;
};

#if defined(__x86_64__)

// ... and by the instructions for it, which came before AVX2.
struct F16c {
  [[gnu::target(DIST_AVX2)]] static void widen(float* out, const void* in, std::size_t elems) {
    const auto* from = static_cast<const Half*>(in);
    std::size_t i = 0;
    for (; i + 8 <= elems; i += 8) {
      const auto half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
    }
    Widen<Half>::run(out + i, from + i, elems - i);
  }
  [[gnu::target(DIST_AVX2)]] static void narrow(void* out, const float* in, std::size_t elems) {
    auto* to = static_cast<Half*>(out);
    std::size_t i = 0;
    for (; i + 8 <= elems; i += 8) {
      const auto half = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), half);
    }
    Narrow<Half>::run(to + i, in + i, elems - i);
  }
};

template <>
struct HalfLoops<Avx2> {
  static constexpr WidenLoop kWiden = &F16c::widen;
  static constexpr NarrowLoop kNarrow = &F16c::narrow;
};

template <>
struct HalfLoops<Avx512> : HalfLoops<Avx2> {};

#endif

// Spells out the table of one instruction set.
template <typename Path>
struct Builder {
  template <typename T>
  static constexpr std::array<PairLoop, kOperations> pairs() {
    return {&Path::template run<Pair<Sum, T>, void*, const void*, const void*, std::size_t>,
            &Path::template run<Pair<Min, T>, void*, const void*, const void*, std::size_t>,
            &Path::template run<Pair<Max, T>, void*, const void*, const void*, std::size_t>,
            &Path::template run<Pair<Product, T>, void*, const void*, const void*, std::size_t>};
  }

  template <typename T>
  static constexpr DivideLoop divider() {
    return &Path::template run<Divide<T>, void*, std::size_t, std::uint64_t>;
  }

  template <typename T, std::size_t kSources, bool kMean>
  static constexpr std::array<FoldLoop, kFoldOuts> folds_into() {
    return {&Path::template run<SumFold<T, kSources, 1, kMean>, void* const*, const void* const*,
                                std::size_t, std::uint64_t>,
            &Path::template run<SumFold<T, kSources, 2, kMean>, void* const*, const void* const*,
                                std::size_t, std::uint64_t>};
  }

  template <bool kMean>
  static constexpr FoldTable folds() {
    return {{{folds_into<float, 2, kMean>(), folds_into<float, 3, kMean>(),
              folds_into<float, 4, kMean>()},
             {folds_into<double, 2, kMean>(), folds_into<double, 3, kMean>(),
              folds_into<double, 4, kMean>()}}};
  }

  template <typename T>
  static constexpr void add_type(KernelSet& set) {
    set.pair[static_cast<std::size_t>(dtype_of<T>)] = pairs<T>();
    set.divide[static_cast<std::size_t>(dtype_of<T>)] = divider<T>();
  }

  template <typename... Types>
  static constexpr void add_types(KernelSet& set) {
    (add_type<Types>(set), ...);
  }

  static constexpr KernelSet build() {
    KernelSet set;
    add_types<float, double, std::int8_t, std::int16_t, std::int32_t, std::int64_t, std::uint8_t,
              std::uint16_t, std::uint32_t, std::uint64_t>(set);
    set.sum = folds<false>();
    set.mean = folds<true>();
    set.widen_half = HalfLoops<Path>::kWiden;
    set.narrow_half = HalfLoops<Path>::kNarrow;
    set.widen_bfloat16 = &Path::template run<Widen<BFloat16>, float*, const void*, std::size_t>;
    set.narrow_bfloat16 = &Path::template run<Narrow<BFloat16>, void*, const float*, std::size_t>;
    return set;
  }
};

constexpr std::array<KernelSet, 3> kKernels = {Builder<Portable>::build(), Builder<Avx2>::build(),
                                               Builder<Avx512>::build()};

}  // namespace

const KernelSet& kernels_of(InstructionSet set) { return kKernels[static_cast<std::size_t>(set)]; }

}  // namespace dist::kernels
