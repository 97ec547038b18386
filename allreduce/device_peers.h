// SPDX-License-Identifier: Apache-2.0
// The arenas of the ranks of one host, on one GPU or several, reached where they lie.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "allreduce/device_exchange.h"
#include "allreduce/host_numbers.h"
#include "libdist/host/host_group.h"
#include "libdist/memory/device.h"
#include "libdist/plan.h"

namespace dist::allreduce {

/// One rank's end. The training thread's.
class DevicePeers {
 public:
  /// Collective among `members`, the ranks of this host in ascending order. Errors, alike on all of
  /// them: those of HostGroup::meet(); unavailable, where one cannot reach the memory of another.
  static Result<std::unique_ptr<DevicePeers>> meet(const DeviceExchangeContext& context,
                                                   const std::vector<Rank>& members);

  HostGroup& group() { return *group_; }
  int members() const { return group_->members(); }
  int member() const { return group_->member(); }

  /// A range of a member's memory, the own one's included.
  std::span<std::byte> gradients(int member, Range range) const;
  std::span<std::byte> parameters(int member, Range range) const;

  /// The part of a range that a member sums and updates.
  Range chunk(Range range, int member) const;
  Range own_chunk(Range range) const { return chunk(range, member()); }

  /// A range of everybody's gradients, in the order in which this member's chunk is summed.
  template <typename Byte>
  void gradients(Range range, std::vector<std::span<Byte>>* spans) const {
    spans->clear();
    for (int k = 0; k < members(); ++k) {
      spans->push_back(gradients((first_summand(member()) + k) % members(), range));
    }
  }

  /// Gives back the memory of the others; only what is the own is left.
  void let_go();

  /// HostNumbers::sum() of as many as the updater has squares.
  Status sum_squares(std::span<double> squares) {
    return squares_.sum(squares, "ring: wait for norms");
  }

 private:
  DevicePeers(Arena& arena, std::unique_ptr<HostGroup> group, std::vector<DeviceMemory> gradients,
              std::vector<DeviceMemory> parameters, HostNumbers squares);
  std::span<std::byte> part(const std::vector<DeviceMemory>& all, int member, Range range) const;

  Arena& arena_;
  std::unique_ptr<HostGroup> group_;
  std::vector<DeviceMemory> gradients_;   // of the others; the own place is empty
  std::vector<DeviceMemory> parameters_;  // as above
  HostNumbers squares_;
};

}  // namespace dist::allreduce
