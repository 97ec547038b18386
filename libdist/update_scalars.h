// SPDX-License-Identifier: Apache-2.0
// What is the same for all elements that an update takes at once. Whoever runs the loops, a
// processor or a GPU, is given these numbers, so that both round the same ones.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libdist/update_rule.h"

namespace dist {

/// The most values of state that a rule keeps for an element.
inline constexpr std::size_t kMostStates = 2;

/// In double; a loop rounds what it derives from them to the type of its elements, once.
struct UpdateScalars {
  double scale = 1;          ///< of the summed gradients
  double rate = 0;           ///< learning rate of the step, with the ratio of Lars
  double decay = 0;          ///< weight decay of these elements
  std::uint64_t update = 1;  ///< t of the formulas in update_rule.h
  double product = 1;        ///< U(t - 1) of Nadam

  // Taken here, since powers differ in the last bit from one mathematical library to another.
  double power1 = 0;         ///< beta1^t of the rules that have one
  double power2 = 0;         ///< beta2^t
  double momentum_now = 0;   ///< u(t) of Nadam
  double momentum_next = 0;  ///< u(t + 1) of Nadam
};

/// Those of update t of a rule, `scale`, `rate` and `decay` left as they are by default. `product`
/// is U(t - 1) of Nadam.
UpdateScalars scalars_of(const UpdateRule& rule, std::uint64_t update, double product = 1);

}  // namespace dist
