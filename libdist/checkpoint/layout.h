// SPDX-License-Identifier: Apache-2.0
// The arena's layout by name, so that a checkpoint outlives it: alignment, buckets and the order of
// the parameters may be others when a job resumes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::checkpoint {

struct Layout {
  struct Entry {
    std::string name;
    Range range;  ///< in the arena
  };

  DType dtype = DType::f32;
  std::string rule;            ///< name of the update rule: it says what the state means
  std::vector<Entry> entries;  ///< ascending

  static Layout of(const Arena& arena, std::string_view rule);

  /// Calls `visit(entry number, part of the arena)` for every parameter that meets `range`.
  template <typename Visit>
  void for_each(Range range, const Visit& visit) const {
    for (std::size_t e = 0; e < entries.size(); ++e) {
      const Range part = intersect(entries[e].range, range);
      if (!part.empty()) visit(e, part);
    }
  }
};

}  // namespace dist::checkpoint
