// SPDX-License-Identifier: Apache-2.0
// Sums over raw spans. Element by element one addition, in the order of the calls; compiled without
// contraction, so that the same sum has the same bits everywhere.
#pragma once

#include <cstddef>
#include <span>

#include "libdist/types.h"

namespace dist {

/// out[i] += in[i]. Equal sizes, whole elements of dtype, not overlapping.
void add_into(std::span<std::byte> out, std::span<const std::byte> in, DType dtype);

/// out[i] = ((sources[0][i] + sources[1][i]) + ...) + sources[n-1][i], n >= 1. out may be a source.
void sum_in_order(std::span<std::byte> out, std::span<const std::span<const std::byte>> sources,
                  DType dtype);

/// data[i] *= factor.
void scale(std::span<std::byte> data, double factor, DType dtype);

}  // namespace dist
