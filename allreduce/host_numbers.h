// SPDX-License-Identifier: Apache-2.0
// A few numbers of every member of a host group, summed by each in the same order.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "libdist/host/host_group.h"
#include "libdist/memory/mapping.h"
#include "libdist/status.h"

namespace dist::allreduce {

/// One member's end. Not thread-safe.
class HostNumbers {
 public:
  /// None: sum() is not called.
  HostNumbers() = default;

  /// Collective among the members, who agree on `count`. `group` outlives this, at its place.
  /// Errors as HostGroup::attach().
  static Result<HostNumbers> meet(HostGroup& group, std::size_t count);

  /// The sums over the members, in their order: the same bits for all. Collective, blocks; between
  /// two calls all members meet elsewhere. Errors as HostGroup::wait(), with `what` in them.
  Status sum(std::span<double> numbers, std::string_view what);

 private:
  HostNumbers(HostGroup& group, std::vector<Mapping> all) : group_(&group), all_(std::move(all)) {}

  HostGroup* group_ = nullptr;
  std::vector<Mapping> all_;  // of all members
};

}  // namespace dist::allreduce
