// SPDX-License-Identifier: Apache-2.0
// Rules by name, and the state that an update keeps; its arithmetic is in update_loops.cpp.
#include "libdist/update.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "libdist/check.h"
#include "libdist/memory/reduce.h"
#include "libdist/update_loops.h"

namespace dist {
namespace {

constexpr std::size_t kBlockBytes = 4096;

bool has_state(const UpdateRule& rule) {
  return std::holds_alternative<Momentum>(rule) || std::holds_alternative<Nesterov>(rule);
}

}  // namespace

Result<UpdateRule> make_update_rule(std::string_view name, double learning_rate) {
  if (name == "sgd") return UpdateRule(Sgd{.learning_rate = learning_rate});
  if (name == "momentum") return UpdateRule(Momentum{.learning_rate = learning_rate});
  if (name == "nesterov") return UpdateRule(Nesterov{.learning_rate = learning_rate});
  return Status::invalid_argument(
      fmt::format("optimizer '{}' is unknown; valid: sgd, momentum, nesterov", name));
}

std::string_view name_of(const UpdateRule& rule) {
  if (std::holds_alternative<MeanGradient>(rule)) return "mean-gradient";
  if (std::holds_alternative<Sgd>(rule)) return "sgd";
  return std::holds_alternative<Momentum>(rule) ? "momentum" : "nesterov";
}

Updater::Updater(UpdateRule rule, Elems elems, DType dtype, Mapping state)
    : rule_(rule), elems_(elems), dtype_(dtype), state_(std::move(state)) {}

Updater::Updater(UpdateRule rule, Elems elems, DType dtype) : Updater(rule, elems, dtype, {}) {
  auto made = create(rule, elems, dtype, {});
  DIST_ASSERT(made.ok(), "update: no memory for the optimizer's state");
  *this = *std::move(made);
}

Result<Updater> Updater::create(UpdateRule rule, Elems elems, DType dtype, Bytes alias_window) {
  if (!can_train(dtype)) {
    return Status::invalid_argument(
        fmt::format("update: parameters are f32 or f64, not {}", name_of(dtype)));
  }
  Mapping state;
  if (has_state(rule)) {
    auto mapped = Mapping::map(bytes_of(elems, dtype), alias_window);
    DIST_TRY_BECAUSE(mapped, "optimizer state");
    state = *std::move(mapped);
  }
  return Updater(rule, elems, dtype, std::move(state));
}

void Updater::apply(std::span<std::byte> parameters, std::span<const std::byte> gradients,
                    std::uint64_t first, double gradient_scale) {
  const std::array<std::span<const std::byte>, 1> one = {gradients};
  apply_sum(parameters, one, first, gradient_scale);
}

void Updater::apply_sum(std::span<std::byte> parameters,
                        std::span<const std::span<const std::byte>> gradients, std::uint64_t first,
                        double gradient_scale) {
  const auto elems = parameters.size() / size_of(dtype_);
  DIST_ASSERT(updates_parameters(), "update: the rule mean-gradient has none");
  DIST_ASSERT(!gradients.empty(), "update: there is no gradient");
  for (const auto& gradient : gradients) {
    DIST_ASSERT(parameters.size() == gradient.size(), "update: the spans differ in size");
  }
  DIST_ASSERT(parameters.size() % size_of(dtype_) == 0, "update: not whole elements");
  DIST_ASSERT(first <= elems_.value && elems <= elems_.value - first,
              "update: the range lies outside the updater's elements");
  std::byte* velocity =
      has_state(rule_) ? state_.bytes().data() + first * size_of(dtype_) : nullptr;
  if (gradients.size() <= kMostSummands) {
    update_on(best_instruction_set(), rule_, dtype_, parameters, gradients, velocity,
              gradient_scale);
    return;
  }
  // More streams than a processor follows well: sums of a block stay in the first-level cache.
  alignas(64) std::array<std::byte, kBlockBytes> block;
  std::vector<std::span<const std::byte>> sources(gradients.size());
  for (std::size_t at = 0; at < parameters.size(); at += kBlockBytes) {
    const auto length = std::min(kBlockBytes, parameters.size() - at);
    for (std::size_t k = 0; k < gradients.size(); ++k) {
      sources[k] = gradients[k].subspan(at, length);
    }
    const std::array<std::span<std::byte>, 1> out = {std::span(block).first(length)};
    reduce_in_order(out, sources, dtype_, Reduction::sum);
    const std::array<std::span<const std::byte>, 1> sum = {out.front()};
    update_on(best_instruction_set(), rule_, dtype_, parameters.subspan(at, length), sum,
              velocity != nullptr ? velocity + at : nullptr, gradient_scale);
  }
}

void Updater::set_learning_rate(double learning_rate) {
  std::visit(
      [&](auto& rule) {
        if constexpr (requires { rule.learning_rate; }) rule.learning_rate = learning_rate;
      },
      rule_);
}

}  // namespace dist
