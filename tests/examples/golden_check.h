// SPDX-License-Identifier: Apache-2.0
// Compares a backend with the PyTorch values in tests/golden (see make_goldens.py). For every
// backend: values pass through plain layouts. Asserts with Catch2; a backend that is not in this
// build skips.
#pragma once

#include <string>

#include "libdist/types.h"

namespace nn::test {

struct GoldenTolerance {
  double loss = 1e-8;      ///< Relative.
  double gradient = 1e-8;  ///< Norm of a tensor, relative; and root mean square of the sampled
                           ///< differences, relative to the tensor's root mean square.
  double floor = 1e-6;     ///< Tensors smaller than this part of the largest (by root mean square)
                           ///< count as that large: theirs is rounding noise.
};

/// One train step and one evaluation as in tests/golden/<file>.json, dropout 0. `file` is a model,
/// or <model>_open for float32 on models with batch norm (make_goldens.py says why).
void check_golden(const std::string& file, const std::string& backend, dist::DType dtype,
                  const GoldenTolerance& tolerance);

/// For float32, with "<model>_open" where there is one. The floor is higher because many of those
/// gradients are mathematically zero (a shift that the next batch norm takes out again).
inline constexpr GoldenTolerance kFloat32{.loss = 1e-4, .gradient = 1e-3, .floor = 1e-3};

/// The ten training losses of small_cnn with momentum.
void check_training_losses(const std::string& backend, dist::DType dtype, double tolerance);

}  // namespace nn::test
