// SPDX-License-Identifier: Apache-2.0
// Reductions over raw spans. Element by element one operation, in the order of the sources;
// compiled without contraction, so that the same reduction has the same bits everywhere (the
// payload of a NaN excepted). Spans begin on a boundary of their element type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "libdist/types.h"

namespace dist {

/// out[i] = op(out[i], in[i]). Equal sizes, whole elements of dtype; the spans are disjoint or the
/// same. mean adds: whoever knows the number of contributions divides at the end. f16 and bf16 are
/// reduced in float and rounded once a call.
void reduce_into(std::span<std::byte> out, std::span<const std::byte> in, DType dtype,
                 Reduction reduction);

/// r = op(...op(op(sources[0][i], sources[1][i]), sources[2][i])..., sources[n-1][i]), stored to
/// every out[i], in one pass. mean divides by n at the end. At least one source and one out, all of
/// one size, whole elements. An out may be one of the sources; other overlaps are not allowed. f16
/// and bf16 are reduced in float and rounded once, at the end.
void reduce_in_order(std::span<const std::span<std::byte>> outs,
                     std::span<const std::span<const std::byte>> sources, DType dtype,
                     Reduction reduction);

/// data[i] /= count: the end of a mean whose sum went round by reduce_into. count >= 1; integers
/// are cut towards zero.
void divide(std::span<std::byte> data, std::uint64_t count, DType dtype);

}  // namespace dist
