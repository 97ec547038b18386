// SPDX-License-Identifier: Apache-2.0
// Delay compensation: what a gradient that was computed from old parameters would be at the new
// ones, to first order. Pure.
#pragma once

#include <cstddef>
#include <span>

#include "libdist/types.h"

namespace dist::ps {

/// out = g + lambda * g * g * (now - then), element by element: the gradient g was computed from
/// the parameters `then` and is about to be applied to `now`; g * g stands for the diagonal of the
/// Hessian. Zheng et al. 2017, "Asynchronous Stochastic Gradient Descent with Delay Compensation",
/// equation 10 (DC-ASGD-c). All spans are of one size, whole elements of dtype (f32 or f64); `out`
/// overlaps none of the others.
void compensate(std::span<std::byte> out, std::span<const std::byte> gradient,
                std::span<const std::byte> now, std::span<const std::byte> then, double lambda,
                DType dtype);

}  // namespace dist::ps
