// SPDX-License-Identifier: Apache-2.0
// All-reduce among the ranks of one host on the callers' own threads: no transport, no hand-over.
// Memory that was allocated here is summed where it lies; any other goes through small staging
// areas that stay in the caches.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "libdist/host/host_group.h"
#include "libdist/memory/mapping.h"
#include "libdist/plan.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::allreduce {

/// One member's end. Not thread-safe. All members make the same calls in the same order.
class HostAllReduce {
 public:
  /// Collective. Errors as HostGroup::meet().
  static Result<std::unique_ptr<HostAllReduce>> meet(HostGroupOptions options);

  /// Zeroed memory that the other members reach in place; every member asks for the same size. It
  /// lives as long as this object.
  Result<std::span<std::byte>> allocate(Bytes bytes);

  /// Reduces `data` over all members, in place; the same bits on every member. Spans of allocated
  /// memory lie at the same place of the same allocation on every member, or none of them does.
  /// Chunk c (of the data, or of each piece that passes the staging area) is combined in the order
  /// of first_summand(c) upward. `what` heads the message of a failure.
  Status all_reduce(std::span<std::byte> data, DType dtype, Reduction reduction,
                    std::string_view what);

  HostGroup& group() { return *group_; }

 private:
  using Regions = std::vector<Mapping>;  // one allocation, of all members

  HostAllReduce(std::unique_ptr<HostGroup> group, Regions staging);
  const Regions* find(std::span<const std::byte> data) const;
  Status sweep(const Regions& regions, std::span<std::byte> data, DType dtype, Reduction reduction,
               std::string_view what);
  Status at_once(std::span<std::byte> data, DType dtype, Reduction reduction,
                 std::string_view what);
  Status in_pieces(std::span<std::byte> data, DType dtype, Reduction reduction,
                   std::string_view what);
  void reduce_own_chunk(std::span<std::byte> piece, Range chunk, std::size_t slot, DType dtype,
                        Reduction reduction);
  std::span<std::byte> staging(std::size_t member, std::size_t slot) const;
  std::size_t members() const { return static_cast<std::size_t>(group_->members()); }
  std::size_t member() const { return static_cast<std::size_t>(group_->member()); }

  std::unique_ptr<HostGroup> group_;
  Regions staging_;
  std::vector<Regions> allocations_;
  std::uint64_t small_calls_ = 0;
  std::uint64_t pieces_ = 0;
};

}  // namespace dist::allreduce
