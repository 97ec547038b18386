// SPDX-License-Identifier: Apache-2.0
// Dynamic loss scaling: the loss is multiplied by `scale` before the backward pass, so that small
// gradients survive half precision, and the gradients are divided by it on their way into the
// arena. Powers of two: neither rounds. A pure function, run on the GPU at the end of each step.
#pragma once

#include <cstdint>

namespace nn::cudnn {

struct LossScale {
  float scale = 1;
  float inverse = 1;
  std::uint32_t good_steps = 0;  ///< since it changed
  std::uint32_t fixed = 1;       ///< it never changes
};

inline constexpr float kFirstLossScale = 65536;
inline constexpr float kLargestLossScale = 16777216;
inline constexpr std::uint32_t kStepsToGrow = 2000;

constexpr LossScale fixed_loss_scale() { return {}; }
constexpr LossScale dynamic_loss_scale() { return {kFirstLossScale, 1 / kFirstLossScale, 0, 0}; }

/// After a step whose gradients were all finite, or not: halved at once, doubled after 2000 good
/// steps, within [1, 2^24].
constexpr LossScale next_loss_scale(LossScale now, bool overflow) {
  if (now.fixed != 0) return now;
  if (overflow) {
    const float scale = now.scale > 1 ? now.scale / 2 : 1;
    return {scale, 1 / scale, 0, 0};
  }
  if (now.good_steps + 1 < kStepsToGrow) return {now.scale, now.inverse, now.good_steps + 1, 0};
  const float scale = now.scale < kLargestLossScale ? now.scale * 2 : now.scale;
  return {scale, 1 / scale, 0, 0};
}

/// What a step keeps on the device.
struct StepState {
  LossScale loss_scale;
  std::uint32_t overflow = 0;  ///< gradients of this step that are infinite or not a number
  std::uint64_t step = 0;      ///< train steps begun
  // Of the last forward pass, next to each other for one copy to the host.
  double loss = 0;      ///< mean over the batch
  double accuracy = 0;  ///< share of the batch whose label was the most probable class
};

}  // namespace nn::cudnn
