// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/goals.h"

#include <algorithm>

#include "bench/gpu/roof.h"
#include "bench/statistics.h"

namespace dist::bench::gpu {
namespace {

std::vector<double> rates(const std::vector<Outcome>& outcomes,
                          const std::function<bool(const Run&)>& takes) {
  std::vector<double> values;
  for (const Outcome& outcome : outcomes) {
    const double rate = takes(outcome.run) ? rate_of(outcome) : 0;
    if (rate > 0) values.push_back(rate);
  }
  return values;
}

std::optional<double> median_of(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  return median(std::move(values));
}

std::optional<double> median_step_ms(const std::vector<Outcome>& outcomes,
                                     const std::string& strategy) {
  std::vector<double> values;
  for (const Outcome& outcome : outcomes) {
    if (outcome.run.section != "overhead" || outcome.run.strategy != strategy) continue;
    if (outcome.state == State::ok) values.push_back(outcome.record.value("step_ms_median", 0.0));
  }
  return median_of(std::move(values));
}

// The ratios to PyTorch, whatever the GPU.
struct Ratio {
  const char* model;
  const char* precision;
  const char* mode;
  double wanted;
};
constexpr Ratio kRatios[] = {
    {"resnet50", "f16", "eager", 1.40},  {"resnet50", "f16", "compile", 1.20},
    {"resnet50", "bf16", "eager", 1.30}, {"vgg16", "f16", "eager", 1.05},
    {"vgg19", "f16", "eager", 1.05},     {"inception_v4", "f16", "eager", 1.30},
    {"resnet152", "f16", "eager", 1.30}};

constexpr double kImagesPerSecond = 6500;
constexpr double kShareOfPeak = 0.16;
constexpr double kOverhead = 0.01;

}  // namespace

std::optional<double> median_rate(const std::vector<Outcome>& outcomes,
                                  const std::function<bool(const Run&)>& takes) {
  return median_of(rates(outcomes, takes));
}

std::vector<Duel> duels(const std::vector<Outcome>& outcomes) {
  std::vector<Duel> found;
  for (const Outcome& outcome : outcomes) {
    const Run& run = outcome.run;
    if (run.section != "peers" || run.program != Program::peer) continue;
    const auto same = [&](const Run& other) {
      return other.section == "peers" && other.model == run.model &&
             other.precision == run.precision;
    };
    const bool known = std::ranges::any_of(found, [&](const Duel& duel) {
      return duel.model == run.model && duel.precision == run.precision && duel.mode == run.mode;
    });
    const auto ours = rates(outcomes, [&](const Run& other) {
      return same(other) && other.program == Program::trainer;
    });
    const auto theirs = rates(outcomes, [&](const Run& other) {
      return same(other) && other.program == Program::peer && other.mode == run.mode;
    });
    if (known || ours.empty() || theirs.empty()) continue;
    found.push_back({run.model, run.precision, run.mode, median(ours), median(theirs),
                     static_cast<int>(ours.size()), static_cast<int>(theirs.size())});
  }
  return found;
}

std::optional<double> overhead(const std::vector<Outcome>& outcomes) {
  const auto bare = median_step_ms(outcomes, "none");
  const auto ring = median_step_ms(outcomes, "ring");
  if (!bare || !ring || *bare <= 0) return std::nullopt;
  return *ring / *bare - 1;
}

std::vector<Goal> goals(const std::vector<Outcome>& outcomes, const std::vector<ModelFacts>& models,
                        const std::string& device_name) {
  std::vector<Goal> all;
  const auto fought = duels(outcomes);
  for (const Ratio& ratio : kRatios) {
    const auto duel = std::ranges::find_if(fought, [&](const Duel& one) {
      return one.model == ratio.model && one.precision == ratio.precision && one.mode == ratio.mode;
    });
    Goal goal{std::string(ratio.model) + " " + ratio.precision + " over PyTorch " + ratio.mode,
              ratio.wanted,
              false,
              {}};
    if (duel != fought.end()) goal.value = duel->ratio();
    all.push_back(goal);
  }
  all.push_back(
      {"library's share of a step on one rank", kOverhead, true, overhead(outcomes), "{:.4f}"});
  if (device_name.find("H200") == std::string::npos) return all;
  const auto rate = median_rate(outcomes, [](const Run& run) {
    return run.model == "resnet50" && run.precision == "f16" && run.program == Program::trainer &&
           (run.section == "throughput" || run.section == "peers");
  });
  all.push_back({"resnet50 f16, images/s", kImagesPerSecond, false, rate, "{:.0f}"});
  Goal share{"resnet50 f16, share of the dense peak", kShareOfPeak, false, {}, "{:.3f}"};
  const auto model = std::ranges::find(models, "resnet50", &ModelFacts::name);
  const auto peak = peak_of(device_name);
  if (rate && peak && model != models.end()) {
    share.value = *rate * model->train_flop / peak->flops("f16");
  }
  all.push_back(share);
  return all;
}

}  // namespace dist::bench::gpu
