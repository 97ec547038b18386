// SPDX-License-Identifier: Apache-2.0
#include "libdist/update_course.h"

#include "libdist/check.h"
#include "libdist/schedule.h"
#include "libdist/update.h"

namespace dist {
namespace {

std::vector<UpdateLayout::Part> merge(const UpdateLayout& layout, const Update& update,
                                      bool by_parameter) {
  if (layout.parts.empty()) return {{0, 0, true}};
  DIST_ASSERT(layout.parts.front().begin == 0, "update: the layout does not begin at element 0");
  const bool decay = weight_decay_of(update.rule) != 0;
  std::vector<UpdateLayout::Part> parts;
  for (const auto& part : layout.parts) {
    DIST_ASSERT(part.parameter < layout.parameters, "update: a part of no parameter");
    if (!parts.empty() && !by_parameter && (!decay || parts.back().decays == part.decays)) continue;
    parts.push_back(part);
  }
  return parts;
}

// 1 - U(t) is 1 for all later t; a bound on the memory where beta1 is next to 1.
constexpr double kNoDifference = 0x1p-60;
constexpr std::size_t kMostProducts = std::size_t{1} << 20;

std::vector<double> momentum_products(const UpdateRule& rule) {
  const auto* nadam = std::get_if<Nadam>(&rule);
  if (nadam == nullptr) return {1};
  std::vector<double> products = {1};
  while (products.back() > kNoDifference && products.size() < kMostProducts) {
    products.push_back(products.back() * momentum_of(*nadam, products.size()));
  }
  return products;
}

}  // namespace

UpdateCourse::UpdateCourse(const Update& update, const UpdateLayout& layout, bool by_parameter)
    : parts_(merge(layout, update, by_parameter)),
      parameters_(layout.parameters),
      momentum_products_(momentum_products(update.rule)) {}

UpdateScalars UpdateCourse::scalars(const Update& update, std::uint64_t step,
                                    double gradient_scale) const {
  const auto last = static_cast<std::uint64_t>(momentum_products_.size()) - 1;
  auto scalars = scalars_of(update.rule, step + 1, momentum_products_[std::min(step, last)]);
  scalars.scale = gradient_scale;
  scalars.rate = learning_rate_of(update.rule) * rate_factor(update.schedule, step);
  scalars.decay = weight_decay_of(update.rule);
  return scalars;
}

NormScaling norm_scaling(const Update& update) {
  const auto* lars = std::get_if<Lars>(&update.rule);
  return {.clip_norm = update.clip_norm,
          .skip_not_finite = update.skip_not_finite,
          .by_parameter = lars != nullptr,
          .trust = lars != nullptr ? lars->trust : 0,
          .weight_decay = weight_decay_of(update.rule)};
}

}  // namespace dist
