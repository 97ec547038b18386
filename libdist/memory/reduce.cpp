// SPDX-License-Identifier: Apache-2.0
// Cuts reductions into the loops of reduce_kernels.h: a whole range where one loop takes all of its
// sources and outs, else block by block, so that what is between the loops stays in the first-level
// cache.
#include "libdist/memory/reduce.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "libdist/check.h"
#include "libdist/memory/reduce_kernels.h"

namespace dist {
namespace kernels {
namespace {

constexpr std::size_t kBlockElems = 1024;
constexpr std::size_t kMostElemBytes = 8;

using Outs = std::span<const std::span<std::byte>>;
using Sources = std::span<const std::span<const std::byte>>;

struct Job {
  const KernelSet& kernels;
  Outs outs;
  Sources sources;
  DType dtype;
  Reduction reduction;

  std::size_t elem_bytes() const { return size_of(dtype); }
  std::size_t elems() const { return outs[0].size() / elem_bytes(); }
  std::byte* out(std::size_t index, std::size_t first) const {
    return outs[index].data() + first * elem_bytes();
  }
  const std::byte* source(std::size_t index, std::size_t first) const {
    return sources[index].data() + first * elem_bytes();
  }
};

constexpr std::size_t index_of(DType dtype) { return static_cast<std::size_t>(dtype); }

// Not for ranges that overlap in part; the same range is left alone.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (to != from && bytes != 0) std::memcpy(to, from, bytes);
}

// The result lies in out 0.
void copy_to_others(const Job& job, std::size_t done_outs, std::size_t first, std::size_t elems) {
  for (std::size_t m = done_outs; m < job.outs.size(); ++m) {
    copy_bytes(job.out(m, first), job.out(0, first), elems * job.elem_bytes());
  }
}

bool folds(const Job& job) {
  return (job.dtype == DType::f32 || job.dtype == DType::f64) &&
         (job.reduction == Reduction::sum || job.reduction == Reduction::mean);
}

// Elements [first, first + elems) of a sum of f32 or f64, at least two sources. Up to kFoldSources
// in one loop; of more, the first ones into `partial`, which then takes the place of a source.
void fold(const Job& job, std::byte* partial, std::size_t first, std::size_t elems) {
  const std::size_t type = index_of(job.dtype);
  const std::size_t outs = std::min(job.outs.size(), kFoldOuts);
  std::array<const void*, kFoldSources> from{};
  std::array<void*, kFoldOuts> to{};
  std::size_t used = 0;
  for (std::size_t s = 0; s < job.sources.size(); ++s) {
    from[used++] = job.source(s, first);
    if (used < kFoldSources || s + 1 == job.sources.size()) continue;
    to[0] = partial;
    job.kernels.sum[type][used - 2][0](to.data(), from.data(), elems, 1);
    from[0] = partial;
    used = 1;
  }
  for (std::size_t m = 0; m < outs; ++m) to[m] = job.out(m, first);
  const FoldTable& last = job.reduction == Reduction::mean ? job.kernels.mean : job.kernels.sum;
  last[type][used - 2][outs - 1](to.data(), from.data(), elems, job.sources.size());
  copy_to_others(job, outs, first, elems);
}

// The same for everything else: two sources a loop.
void chain(const Job& job, std::byte* partial, std::size_t first, std::size_t elems) {
  const PairLoop loop = job.kernels.pair[index_of(job.dtype)][operation_of(job.reduction)];
  const std::byte* so_far = job.source(0, first);
  for (std::size_t s = 1; s < job.sources.size(); ++s) {
    std::byte* const to = s + 1 == job.sources.size() ? job.out(0, first) : partial;
    loop(to, so_far, job.source(s, first), elems);
    so_far = to;
  }
  if (job.reduction == Reduction::mean) {
    job.kernels.divide[index_of(job.dtype)](job.out(0, first), elems, job.sources.size());
  }
  copy_to_others(job, 1, first, elems);
}

struct Narrowed {
  WidenLoop widen;
  NarrowLoop narrow;
};

Narrowed narrowed(const KernelSet& kernels, DType dtype) {
  if (dtype == DType::f16) return {kernels.widen_half, kernels.narrow_half};
  return {kernels.widen_bfloat16, kernels.narrow_bfloat16};
}

bool is_narrow(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

// f16 and bf16 through float.
void widen_and_chain(const Job& job, std::size_t first, std::size_t elems) {
  const Narrowed with = narrowed(job.kernels, job.dtype);
  const auto f32 = index_of(DType::f32);
  const PairLoop loop = job.kernels.pair[f32][operation_of(job.reduction)];
  std::array<float, kBlockElems> total;
  std::array<float, kBlockElems> next;
  with.widen(total.data(), job.source(0, first), elems);
  for (std::size_t s = 1; s < job.sources.size(); ++s) {
    with.widen(next.data(), job.source(s, first), elems);
    loop(total.data(), total.data(), next.data(), elems);
  }
  if (job.reduction == Reduction::mean) {
    job.kernels.divide[f32](total.data(), elems, job.sources.size());
  }
  with.narrow(job.out(0, first), total.data(), elems);
  copy_to_others(job, 1, first, elems);
}

void reduce(const Job& job) {
  const std::size_t elems = job.elems();
  if (job.sources.size() == 1) {
    for (std::size_t m = 0; m < job.outs.size(); ++m) {
      copy_bytes(job.out(m, 0), job.source(0, 0), elems * job.elem_bytes());
    }
    return;
  }
  const bool narrow = is_narrow(job.dtype);
  const bool fits_a_loop = folds(job)
                               ? job.sources.size() <= kFoldSources && job.outs.size() <= kFoldOuts
                               : job.sources.size() == 2 && job.outs.size() == 1 &&
                                     job.reduction != Reduction::mean && !narrow;
  const std::size_t block = fits_a_loop ? elems : kBlockElems;
  alignas(64) std::array<std::byte, kBlockElems * kMostElemBytes> partial;
  for (std::size_t first = 0; first < elems; first += block) {
    const std::size_t n = std::min(block, elems - first);
    if (narrow) {
      widen_and_chain(job, first, n);
    } else if (folds(job)) {
      fold(job, partial.data(), first, n);
    } else {
      chain(job, partial.data(), first, n);
    }
  }
}

}  // namespace

void reduce_in_order(InstructionSet set, Outs outs, Sources sources, DType dtype,
                     Reduction reduction) {
  DIST_ASSERT(!sources.empty() && !outs.empty(), "reduce_in_order: no source or no out");
  DIST_ASSERT(outs[0].size() % size_of(dtype) == 0, "reduce_in_order: not whole elements");
  for (const auto& source : sources) {
    DIST_ASSERT(source.size() == outs[0].size(), "reduce_in_order: the spans differ in size");
  }
  for (const auto& out : outs) {
    DIST_ASSERT(out.size() == outs[0].size(), "reduce_in_order: the spans differ in size");
  }
  reduce({kernels_of(set), outs, sources, dtype, reduction});
}

void reduce_into(InstructionSet set, std::span<std::byte> out, std::span<const std::byte> in,
                 DType dtype, Reduction reduction) {
  DIST_ASSERT(out.size() == in.size(), "reduce_into: the spans differ in size");
  DIST_ASSERT(out.size() % size_of(dtype) == 0, "reduce_into: not whole elements");
  const std::array<std::span<const std::byte>, 2> sources = {out, in};
  const auto operation = reduction == Reduction::mean ? Reduction::sum : reduction;
  reduce({kernels_of(set), {&out, 1}, sources, dtype, operation});
}

void divide(InstructionSet set, std::span<std::byte> data, std::uint64_t count, DType dtype) {
  DIST_ASSERT(data.size() % size_of(dtype) == 0, "divide: not whole elements");
  DIST_ASSERT(count >= 1, "divide: by zero");
  const KernelSet& kernels = kernels_of(set);
  const std::size_t elems = data.size() / size_of(dtype);
  if (!is_narrow(dtype)) {
    kernels.divide[index_of(dtype)](data.data(), elems, count);
    return;
  }
  const Narrowed with = narrowed(kernels, dtype);
  std::array<float, kBlockElems> wide;
  for (std::size_t first = 0; first < elems; first += kBlockElems) {
    const std::size_t n = std::min(kBlockElems, elems - first);
    std::byte* const at = data.data() + first * size_of(dtype);
    with.widen(wide.data(), at, n);
    kernels.divide[index_of(DType::f32)](wide.data(), n, count);
    with.narrow(at, wide.data(), n);
  }
}

}  // namespace kernels

void reduce_into(std::span<std::byte> out, std::span<const std::byte> in, DType dtype,
                 Reduction reduction) {
  kernels::reduce_into(best_instruction_set(), out, in, dtype, reduction);
}

void reduce_in_order(std::span<const std::span<std::byte>> outs,
                     std::span<const std::span<const std::byte>> sources, DType dtype,
                     Reduction reduction) {
  kernels::reduce_in_order(best_instruction_set(), outs, sources, dtype, reduction);
}

void divide(std::span<std::byte> data, std::uint64_t count, DType dtype) {
  kernels::divide(best_instruction_set(), data, count, dtype);
}

}  // namespace dist
