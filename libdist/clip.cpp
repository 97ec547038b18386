// SPDX-License-Identifier: Apache-2.0
#include "libdist/clip.h"

#include <cmath>

#include "libdist/check.h"
#include "libdist/memory/instruction_set.h"
#include "libdist/update_loops.h"

namespace dist {
namespace {

template <typename T>
void scale(std::span<std::byte> bytes, double factor) {
  auto* const values = reinterpret_cast<T*>(bytes.data());
  const auto by = static_cast<T>(factor);
  for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) values[i] *= by;
}

}  // namespace

void clip(std::span<std::byte> gradient, DType dtype, double clip_norm) {
  DIST_ASSERT(can_train(dtype), "clip: gradients are f32 or f64");
  const double squares = sum_of_squares_on(best_instruction_set(), dtype, gradient);
  const double factor = clip_factor(clip_norm, std::sqrt(squares));
  if (factor == 1) return;
  return dtype == DType::f32 ? scale<float>(gradient, factor) : scale<double>(gradient, factor);
}

}  // namespace dist
