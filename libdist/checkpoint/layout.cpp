// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/layout.h"

namespace dist::checkpoint {

Layout Layout::of(const Arena& arena, std::string_view rule) {
  Layout layout{arena.dtype(), std::string(rule), {}};
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    layout.entries.push_back({arena.parameter(p).name, arena.range(p)});
  }
  return layout;
}

}  // namespace dist::checkpoint
