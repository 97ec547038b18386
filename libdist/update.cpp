// SPDX-License-Identifier: Apache-2.0
// The state that an update keeps, and what its elements have in common in a step; the arithmetic is
// in update_loops.cpp.
#include "libdist/update.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "libdist/check.h"
#include "libdist/clip.h"
#include "libdist/memory/reduce.h"
#include "libdist/update_loops.h"

namespace dist {
namespace {

constexpr std::size_t kBlockBytes = 4096;

bool scales_by_parameter(const UpdateRule& rule) { return std::holds_alternative<Lars>(rule); }

}  // namespace

bool needs_norms(const Update& update) {
  return update.clip_norm > 0 || update.skip_not_finite || scales_by_parameter(update.rule);
}

Status validate(const Update& update) {
  DIST_TRY(validate(update.rule));
  DIST_TRY(validate(update.schedule));
  if (update.clip_norm != 0 && !updates_parameters(update.rule)) {
    return Status::invalid_argument(
        "clip_norm is part of an update, but with the rule mean-gradient the program has its own");
  }
  if (update.skip_not_finite && !updates_parameters(update.rule)) {
    return Status::invalid_argument(
        "skip_not_finite is part of an update, but with the rule mean-gradient the program has its "
        "own");
  }
  if (std::isfinite(update.clip_norm) && update.clip_norm >= 0) return {};
  return Status::invalid_argument(
      fmt::format("clip_norm is {}; it must be a number above 0, or 0 for off", update.clip_norm));
}

std::string describe(const Update& update) {
  auto text = fmt::format("{}, schedule {}", describe(update.rule), describe(update.schedule));
  if (update.clip_norm > 0) text += fmt::format(", clip_norm {}", update.clip_norm);
  if (update.skip_not_finite) text += ", skip_not_finite";
  return text;
}

UpdateLayout layout_of(const Arena& arena) {
  UpdateLayout layout{arena.elems(), {}, arena.parameter_count()};
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    if (arena.range(p).empty()) continue;
    layout.parts.push_back({arena.range(p).begin, p, arena.parameter(p).decays});
  }
  return layout;
}

Updater::Updater(Update update, const UpdateLayout& layout, DType dtype,
                 std::array<Mapping, 2> states)
    : update_(update),
      elems_(layout.elems),
      // To see whether all is finite, squares need no order: parts may join.
      course_(update_, layout, update_.clip_norm > 0 || norm_scaling(update_).by_parameter),
      dtype_(dtype),
      states_(std::move(states)) {}

Updater::Updater(Update update, Elems elems, DType dtype) : Updater(update, {elems}, dtype, {}) {
  auto made = create(update, {elems}, dtype);
  DIST_ASSERT(made.ok(), "update: no memory for the optimizer's state");
  *this = *std::move(made);
}

Result<Updater> Updater::create(Update update, const UpdateLayout& layout, DType dtype,
                                Bytes alias_window) {
  if (!can_train(dtype)) {
    return Status::invalid_argument(
        fmt::format("update: parameters are f32 or f64, not {}", name_of(dtype)));
  }
  DIST_TRY(validate(update));
  std::array<Mapping, 2> states;
  for (std::size_t k = 0; k < states_of(update.rule); ++k) {
    auto mapped = Mapping::map(bytes_of(layout.elems, dtype), alias_window);
    DIST_TRY_BECAUSE(mapped, "optimizer state");
    states[k] = *std::move(mapped);
  }
  return Updater(update, layout, dtype, std::move(states));
}

Bytes Updater::state_bytes() const {
  return Bytes(states_[0].bytes().size() + states_[1].bytes().size());
}

void Updater::set_learning_rate(double learning_rate) {
  dist::set_learning_rate(update_.rule, learning_rate);
}

double Updater::total_of(const UpdateStep& step) const {
  double squares = 0;
  for (std::size_t p = 0; p < course_.parameters(); ++p) squares += step.squares[p];
  return squares;
}

double Updater::scale_of(const UpdateStep& step) const {
  if (update_.clip_norm == 0) return step.gradient_scale;
  return clipped_scale(step.gradient_scale, total_of(step), update_.clip_norm);
}

// The ratio r of Lars.
double Updater::trust_of(const UpdateLayout::Part& part, const UpdateStep& step,
                         double scale) const {
  if (!scales_by_parameter(update_.rule) || !part.decays) return 1;
  return trust_ratio(norm_scaling(update_), scale, step.squares[part.parameter],
                     step.squares[course_.parameters() + part.parameter]);
}

void Updater::apply(std::span<std::byte> parameters, std::span<const std::byte> gradients,
                    std::uint64_t first, const UpdateStep& step) {
  const std::array<std::span<const std::byte>, 1> one = {gradients};
  apply_sum(parameters, one, first, step);
}

void Updater::apply_sum(std::span<std::byte> parameters,
                        std::span<const std::span<const std::byte>> gradients, std::uint64_t first,
                        const UpdateStep& step) {
  const auto elems = parameters.size() / size_of(dtype_);
  DIST_ASSERT(updates_parameters(), "update: the rule mean-gradient has none");
  DIST_ASSERT(!gradients.empty(), "update: there is no gradient");
  for (const auto& gradient : gradients) {
    DIST_ASSERT(parameters.size() == gradient.size(), "update: the spans differ in size");
  }
  DIST_ASSERT(parameters.size() % size_of(dtype_) == 0, "update: not whole elements");
  DIST_ASSERT(first <= elems_.value && elems <= elems_.value - first,
              "update: the range lies outside the updater's elements");
  DIST_ASSERT(step.squares.size() >= square_count(), "update: it needs norms (add_squares)");
  if (update_.skip_not_finite && !std::isfinite(total_of(step))) return;
  const UpdateScalars base = course_.scalars(update_, step.step, step.gradient_scale);
  UpdateScalars scalars = base;
  scalars.scale = scale_of(step);
  std::vector<std::span<const std::byte>> sources;
  course_.for_each_part(first, elems, [&](std::size_t index, Range range) {
    const UpdateLayout::Part& part = course_.parts()[index];
    scalars.rate = base.rate * trust_of(part, step, scalars.scale);
    scalars.decay = part.decays ? base.decay : 0;
    if (range.elems() == elems) return apply_part(parameters, gradients, first, scalars);
    const auto skipped = (range.begin - first) * size_of(dtype_);
    const auto length = range.elems() * size_of(dtype_);
    sources.clear();
    for (const auto& gradient : gradients) sources.push_back(gradient.subspan(skipped, length));
    apply_part(parameters.subspan(skipped, length), sources, range.begin, scalars);
  });
}

void Updater::apply_part(std::span<std::byte> parameters,
                         std::span<const std::span<const std::byte>> gradients, std::uint64_t first,
                         const UpdateScalars& scalars) {
  const auto update_block = [&](std::span<std::byte> block,
                                std::span<const std::span<const std::byte>> sources,
                                std::uint64_t at) {
    std::array<std::byte*, kMostStates> states{};
    for (std::size_t k = 0; k < states_of(update_.rule); ++k) {
      states[k] = states_[k].bytes().data() + at * size_of(dtype_);
    }
    update_on(best_instruction_set(), update_.rule, dtype_, block, sources, states, scalars);
  };
  if (gradients.size() <= kMostSummands) return update_block(parameters, gradients, first);
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
    update_block(parameters.subspan(at, length), sum, first + at / size_of(dtype_));
  }
}

std::span<std::byte> Updater::state(std::size_t array, Range range) const {
  DIST_ASSERT(array < state_arrays() && range.begin <= range.end && range.end <= elems_.value,
              "update: no such state");
  const auto size = size_of(dtype_);
  return states_[array].bytes().subspan(range.begin * size, range.elems() * size);
}

void Updater::add_squares(std::span<const std::byte> parameters,
                          std::span<const std::byte> gradients, std::uint64_t first,
                          std::span<double> squares) const {
  DIST_ASSERT(parameters.size() == gradients.size(), "update: the spans differ in size");
  DIST_ASSERT(squares.size() == square_count(), "update: another number of squares");
  if (squares.empty()) return;
  const auto set = best_instruction_set();
  course_.for_each_part(first, parameters.size() / size_of(dtype_),
                        [&](std::size_t index, Range range) {
                          const UpdateLayout::Part& part = course_.parts()[index];
                          const auto skipped = (range.begin - first) * size_of(dtype_);
                          const auto length = range.elems() * size_of(dtype_);
                          squares[part.parameter] +=
                              sum_of_squares_on(set, dtype_, gradients.subspan(skipped, length));
                          if (!scales_by_parameter(update_.rule)) return;
                          squares[course_.parameters() + part.parameter] +=
                              sum_of_squares_on(set, dtype_, parameters.subspan(skipped, length));
                        });
}

}  // namespace dist
