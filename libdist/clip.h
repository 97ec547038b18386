// SPDX-License-Identifier: Apache-2.0
// Clipping by norm: a gradient that is too long, as one vector, is made shorter.
#pragma once

#include <cstddef>
#include <span>

#include "libdist/types.h"

namespace dist {

/// min(1, clip_norm / (norm + 1e-6)), by which a gradient is multiplied: Pascanu et al. 2013,
/// algorithm 1, as PyTorch's clip_grad_norm_. 1 where clip_norm is 0: off.
constexpr double clip_factor(double clip_norm, double norm) {
  // So that a gradient of zeros is not divided by 0; PyTorch's value.
  constexpr double kEpsilon = 1e-6;
  const double factor = clip_norm / (norm + kEpsilon);
  return clip_norm == 0 || !(factor < 1) ? 1 : factor;
}

/// Clips raw bytes of `dtype` (f32 or f64), all of a gradient, where they lie.
void clip(std::span<std::byte> gradient, DType dtype, double clip_norm);

}  // namespace dist
