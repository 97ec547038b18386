// SPDX-License-Identifier: Apache-2.0
// The order in which a backward pass finishes its gradients: record it once, agree on one order,
// then lay the arena out in it, so that buckets fill one after the other.
#pragma once

#include <cstddef>
#include <vector>

#include "libdist/group.h"
#include "libdist/status.h"

namespace dist {

/// Of parameters that the program has numbered 0 .. parameters - 1 in any order. Not thread-safe.
class ArrivalOrder {
 public:
  /// Nothing has arrived yet.
  explicit ArrivalOrder(std::size_t parameters);

  /// The gradient of a parameter is final; only the first call for each counts.
  void note(std::size_t parameter);

  /// Rank 0's order, on every member of the group: first what arrived there, then the rest by
  /// falling number (what comes last in a forward pass comes first in a backward pass). Collective.
  /// Errors: members with other numbers of parameters; the group's.
  Result<std::vector<std::size_t>> agree(Group& group) const;

 private:
  std::vector<std::size_t> order_;
  std::vector<bool> seen_;
};

}  // namespace dist
