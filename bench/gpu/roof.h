// SPDX-License-Identifier: Apache-2.0
// A measured step against what the device could do. Pure.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/gpu/peak.h"
#include "bench/gpu/plan.h"
#include "libdist/status.h"

namespace dist::bench::gpu {

/// What a batch's train step must do at least, and how long that takes at the device's peaks.
struct Work {
  double flop = 0;
  double bytes = 0;
  double roof_s = 0;  ///< sum over layers and passes of max(flop / peak, bytes / memory peak)
};

/// Bytes: activations in the precision's size (f32 and tf32: 4, f16 and bf16: 2), weights read once
/// forward and twice backward (data and weight gradients) in that size; an update reads and writes
/// parameter and momentum and reads the gradient in f32: 20 bytes a parameter, in the layer's
/// backward pass. Needs peak.flops(precision) > 0.
Work work_of(const ModelFacts& model, const std::string& precision, int batch, const Peak& peak);

/// Shares of the device's peaks in a run of `images_per_second`.
struct Fraction {
  double of_flops = 0;  ///< model FLOP/s over the precision's peak
  double of_bytes = 0;  ///< least bytes/s over the memory's peak
  double of_roof = 0;   ///< roof_s over the measured step
};
Fraction fraction_of(const Work& work, int batch, double images_per_second,
                     const std::string& precision, const Peak& peak);

/// Times of one kind of layer ("conv", "batch_norm", ...) in a step, and the work in it.
struct KindTime {
  int layers = 0;
  double forward_ms = 0;
  double backward_ms = 0;
  double flop = 0;
  double bytes = 0;
};

/// Adds a profile (record "profile" of train_cnn) up by kind. Error: a layer that the model has
/// not.
Result<std::map<std::string, KindTime>> by_kind(const ModelFacts& model,
                                                const nlohmann::json& profile,
                                                const std::string& precision);

/// Takes a record "model" of train_cnn --describe apart.
Result<ModelFacts> parse_model(const nlohmann::json& record);

}  // namespace dist::bench::gpu
