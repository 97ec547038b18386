// SPDX-License-Identifier: Apache-2.0
// Models and outcomes as small as the tests of gpu_check need them.
#pragma once

#include <string>

#include "bench/gpu/outcome.h"

namespace dist::test {

/// One convolution of 1 GFLOP forward and one batch norm of a million elements, an image.
inline bench::gpu::ModelFacts small_model(const std::string& name) {
  return {name,
          1e6,
          3e6,
          3e9,
          {{"conv1", "conv", 1e9, 2e9, 2e6, 4e6, 1e6}, {"bn1", "batch_norm", 0, 0, 3e6, 5e6, 0}}};
}

inline bench::gpu::Outcome rated(const std::string& section, const std::string& model,
                                 const std::string& precision, double images_per_second) {
  bench::gpu::Outcome outcome;
  outcome.run.section = section;
  outcome.run.name = section + "-" + model;
  outcome.run.model = model;
  outcome.run.precision = precision;
  outcome.run.batch = 256;
  outcome.record = {{"images_per_second", images_per_second},
                    {"step_ms_median", 256e3 / images_per_second}};
  return outcome;
}

inline bench::gpu::Outcome peer(const std::string& model, const std::string& precision,
                                const std::string& mode, double images_per_second) {
  auto outcome = rated("peers", model, precision, images_per_second);
  outcome.run.program = bench::gpu::Program::peer;
  outcome.run.mode = mode;
  return outcome;
}

}  // namespace dist::test
