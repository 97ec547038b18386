// SPDX-License-Identifier: Apache-2.0
#include "libdist/update_scalars.h"

#include <cmath>

namespace dist {

UpdateScalars scalars_of(const UpdateRule& rule, std::uint64_t update, double product) {
  UpdateScalars scalars;
  scalars.update = update;
  scalars.product = product;
  std::visit(
      [&](const auto& chosen) {
        if constexpr (requires { chosen.beta2; }) {
          scalars.power1 = std::pow(chosen.beta1, static_cast<double>(update));
          scalars.power2 = std::pow(chosen.beta2, static_cast<double>(update));
        }
        if constexpr (requires { chosen.momentum_decay; }) {
          scalars.momentum_now = momentum_of(chosen, update);
          scalars.momentum_next = momentum_of(chosen, update + 1);
        }
      },
      rule);
  return scalars;
}

}  // namespace dist
