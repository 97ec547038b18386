// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules: what the rule's learning rate is multiplied by, as a pure function of
// the step, so that every rank and server computes the same without a word.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "libdist/status.h"

namespace dist {

/// Always 1.
struct ConstantRate {};

/// factor ^ floor(step / interval_steps), as PyTorch's StepLR.
struct StepDecay {
  std::uint64_t interval_steps = 1;  ///< between two decays, at least 1
  double factor = 0.1;               ///< of each decay
};

/// floor + (1 - floor) * (1 + cos(pi * t / T)) / 2 with t the steps after the warm-up and T =
/// total_steps - warmup_steps; floor from step total_steps on. Loshchilov and Hutter 2017, equation
/// 5 without restarts; PyTorch's CosineAnnealingLR with eta_min = floor * learning rate.
struct CosineDecay {
  std::uint64_t total_steps = 1;  ///< warm-up included, more than it
  double floor = 0;               ///< the factor at the end
};

/// One of them.
using Decay = std::variant<ConstantRate, StepDecay, CosineDecay>;

/// A decay, times (step + 1) / warmup_steps in the first warmup_steps steps: the gradual warm-up of
/// Goyal et al. 2017, section 2.2.
struct Schedule {
  Decay decay{};                   ///< after the warm-up
  std::uint64_t warmup_steps = 0;  ///< 0: none
};

/// What the learning rate is multiplied by in `step` (0 is the first).
double rate_factor(const Schedule& schedule, std::uint64_t step);

/// Error (invalid_argument): an interval of 0 steps, a cosine that ends within its warm-up, numbers
/// that are not finite.
Status validate(const Schedule& schedule);

/// "constant", "step (interval_steps 30, factor 0.1)", "cosine (...), warm-up 5 steps": all numbers
/// of it, exactly.
std::string describe(const Schedule& schedule);

}  // namespace dist
