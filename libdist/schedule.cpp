// SPDX-License-Identifier: Apache-2.0
#include "libdist/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dist {
namespace {

double factor_of(const ConstantRate&, std::uint64_t, std::uint64_t) { return 1; }

double factor_of(const StepDecay& decay, std::uint64_t step, std::uint64_t) {
  const auto decays = step / decay.interval_steps;
  return std::pow(decay.factor, static_cast<double>(decays));
}

double factor_of(const CosineDecay& decay, std::uint64_t step, std::uint64_t warmup_steps) {
  if (step >= decay.total_steps) return decay.floor;
  const auto gone = static_cast<double>(step - std::min(step, warmup_steps));
  const auto length = static_cast<double>(decay.total_steps - warmup_steps);
  const double height = (1 + std::cos(std::numbers::pi * gone / length)) / 2;
  return decay.floor + (1 - decay.floor) * height;
}

Status validate_decay(const ConstantRate&, std::uint64_t) { return {}; }

Status validate_decay(const StepDecay& decay, std::uint64_t) {
  if (decay.interval_steps > 0 && std::isfinite(decay.factor) && decay.factor >= 0) return {};
  return Status::invalid_argument(
      fmt::format("schedule step: every {} steps times {}; it needs an interval of at least 1 step "
                  "and a factor of at least 0",
                  decay.interval_steps, decay.factor));
}

Status validate_decay(const CosineDecay& decay, std::uint64_t warmup_steps) {
  if (decay.total_steps > warmup_steps && std::isfinite(decay.floor) && decay.floor >= 0) return {};
  return Status::invalid_argument(
      fmt::format("schedule cosine: {} steps, {} of them warm-up, down to {}; it needs steps after "
                  "the warm-up and a floor of at least 0",
                  decay.total_steps, warmup_steps, decay.floor));
}

std::string describe_decay(const ConstantRate&) { return "constant"; }

std::string describe_decay(const StepDecay& decay) {
  return fmt::format("step (interval_steps {}, factor {})", decay.interval_steps, decay.factor);
}

std::string describe_decay(const CosineDecay& decay) {
  return fmt::format("cosine (total_steps {}, floor {})", decay.total_steps, decay.floor);
}

}  // namespace

double rate_factor(const Schedule& schedule, std::uint64_t step) {
  const double decay =
      std::visit([&](const auto& chosen) { return factor_of(chosen, step, schedule.warmup_steps); },
                 schedule.decay);
  if (step >= schedule.warmup_steps) return decay;
  return decay * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps);
}

Status validate(const Schedule& schedule) {
  return std::visit(
      [&](const auto& chosen) { return validate_decay(chosen, schedule.warmup_steps); },
      schedule.decay);
}

std::string describe(const Schedule& schedule) {
  auto text = std::visit([](const auto& chosen) { return describe_decay(chosen); }, schedule.decay);
  if (schedule.warmup_steps > 0) text += fmt::format(", warm-up {} steps", schedule.warmup_steps);
  return text;
}

}  // namespace dist
