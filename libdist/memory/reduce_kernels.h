// SPDX-License-Identifier: Apache-2.0
// Internal to libdist/memory, its tests and benches: the loops under reduce.h as tables of
// functions, one table for each instruction set. All tables give the same bits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "libdist/memory/instruction_set.h"
#include "libdist/types.h"

namespace dist::kernels {

/// out[i] = op(a[i], b[i]); out may be a or b.
using PairLoop = void (*)(void* out, const void* a, const void* b, std::size_t elems);

/// outs[m][i] = op(...op(sources[0][i], sources[1][i])..., sources[n-1][i]) for a fixed number of
/// sources and outs, for a mean then divided by `count`. An out may be a source.
using FoldLoop = void (*)(void* const* outs, const void* const* sources, std::size_t elems,
                          std::uint64_t count);

/// data[i] /= count.
using DivideLoop = void (*)(void* data, std::size_t elems, std::uint64_t count);

using WidenLoop = void (*)(float* out, const void* in, std::size_t elems);
using NarrowLoop = void (*)(void* out, const float* in, std::size_t elems);

/// The operations of a pair; a mean is a sum until its end.
inline constexpr std::size_t kOperations = 4;
constexpr std::size_t operation_of(Reduction reduction) {
  constexpr std::array<std::size_t, 5> kIndex = {0, 0, 1, 2, 3};
  return kIndex[static_cast<std::size_t>(reduction)];
}

/// Most sources and outs of a FoldLoop.
inline constexpr std::size_t kFoldSources = 4;
inline constexpr std::size_t kFoldOuts = 2;

/// Sums of f32 or f64 (in this order) of 2 .. kFoldSources sources into 1 .. kFoldOuts outs.
using FoldTable = std::array<std::array<std::array<FoldLoop, kFoldOuts>, kFoldSources - 1>, 2>;

struct KernelSet {
  /// By DType and operation_of(); none for f16 and bf16, which are widened first.
  std::array<std::array<PairLoop, kOperations>, kDTypes> pair{};
  std::array<DivideLoop, kDTypes> divide{};
  FoldTable sum{};
  FoldTable mean{};
  WidenLoop widen_half = nullptr;
  NarrowLoop narrow_half = nullptr;
  WidenLoop widen_bfloat16 = nullptr;
  NarrowLoop narrow_bfloat16 = nullptr;
};

/// The table of a usable instruction set.
const KernelSet& kernels_of(InstructionSet set);

/// reduce.h's functions on a usable instruction set.
void reduce_into(InstructionSet set, std::span<std::byte> out, std::span<const std::byte> in,
                 DType dtype, Reduction reduction);
void reduce_in_order(InstructionSet set, std::span<const std::span<std::byte>> outs,
                     std::span<const std::span<const std::byte>> sources, DType dtype,
                     Reduction reduction);
void divide(InstructionSet set, std::span<std::byte> data, std::uint64_t count, DType dtype);

}  // namespace dist::kernels
