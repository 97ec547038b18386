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
  double gradient = 1e-8;  ///< Norm of a tensor, relative.
  double samples = 3e-8;  ///< Root mean square of the differences at the sampled elements, relative
                          ///< to the tensor's.
  double zero = 1e-10;    ///< Gradients that are mathematically zero (golden root mean square below
                        ///< 1e-10 of the largest tensor's): largest value allowed, as a part of it.
};

/// One train step and one evaluation as in tests/golden/<file>.json, dropout 0. `file` is a model,
/// or <model>_open for float32 on models with batch norm (make_goldens.py says why).
void check_golden(const std::string& file, const std::string& backend, dist::DType dtype,
                  const GoldenTolerance& tolerance);

/// For float32, with "<model>_open" where there is one. There many shifts have no gradient: the
/// next batch norm takes them out again. Samples get more room than norms: where two pixels of a
/// max pool are equal to the last bits, rounding decides which one gets the gradient.
inline constexpr GoldenTolerance kFloat32{
    .loss = 1e-4, .gradient = 1e-3, .samples = 1e-2, .zero = 1e-5};

/// The ten training losses of small_cnn with momentum.
void check_training_losses(const std::string& backend, dist::DType dtype, double tolerance);

}  // namespace nn::test
