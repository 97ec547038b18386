// SPDX-License-Identifier: Apache-2.0
// The arenas of the ranks of one host, reached where they lie: everybody's gradients, and one copy
// of the parameters for all.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "allreduce/exchange.h"
#include "allreduce/host_numbers.h"
#include "libdist/host/host_group.h"
#include "libdist/memory/mapping.h"

namespace dist::allreduce {

/// Sums words over `members` alone, in place; collective among them.
std::function<Status(std::span<std::uint64_t>)> sum_among(Progress& progress, Trace& trace,
                                                          const Options& options,
                                                          std::vector<Rank> members);

/// The flags of `members`, ranks of one host in ascending order, this one among them. Errors as
/// HostGroup::meet().
Result<std::unique_ptr<HostGroup>> meet_members(Progress& progress, Trace& trace,
                                                const Options& options,
                                                const std::vector<Rank>& members);

/// One rank's end. After construction gradients() and own_chunk() may be called from any thread.
class HostArena {
 public:
  /// Collective among `members`, the ranks of this host in ascending order. Errors as
  /// HostGroup::meet().
  static Result<std::unique_ptr<HostArena>> meet(const ExchangeContext& context,
                                                 const std::vector<Rank>& members);

  /// The parameters become the arena's own again, with what they show now.
  ~HostArena() { static_cast<void>(arena_.parameter_memory().show_own()); }
  HostArena(const HostArena&) = delete;
  HostArena& operator=(const HostArena&) = delete;

  HostGroup& group() { return *group_; }
  std::size_t members() const { return gradients_.size(); }

  /// The parameters of the first member become everybody's: as one copy for all if `share`, else as
  /// copies. Collective; the caller sees to it that nobody writes to them meanwhile.
  Status take_parameters(bool share);

  /// Ends the sharing. Collective, blocks.
  Status give_back_parameters();

  /// What a rank does without, on average, since the members share parameters and split the state.
  Bytes memory_saved(const Updater& updater) const;

  /// What the other members read out of this one's gradients in a step.
  Bytes gradients_read_by_others(const std::vector<Bucket>& buckets) const;

  /// Sums as many numbers as the updater has squares over the members, in their order: the same
  /// bits for all. Collective, blocks; between two calls all members meet elsewhere.
  Status sum_squares(std::span<double> squares);

  /// The part of a range that this member sums.
  Range own_chunk(Range range) const;

  /// Copies what the other members have summed of a range out of their gradients into the own ones.
  void copy_chunks_of_others(Range range) const;

  /// A range of every member's gradients, in the order in which this member's chunk is summed.
  template <typename Byte>
  void gradients(Range range, std::vector<std::span<Byte>>* spans) const {
    spans->resize(members());
    for (std::size_t k = 0; k < members(); ++k) (*spans)[k] = gradients_of(k, range);
  }

 private:
  // Of the member whose gradients come `summand`-th in this member's sums.
  std::span<std::byte> gradients_of(std::size_t summand, Range range) const;

  HostArena(Arena& arena, std::unique_ptr<HostGroup> group, std::vector<Mapping> gradients,
            std::vector<Mapping> parameters, HostNumbers squares);

  Arena& arena_;
  std::unique_ptr<HostGroup> group_;
  const std::vector<Mapping> gradients_;   // of all members
  const std::vector<Mapping> parameters_;  // of all members
  HostNumbers squares_;
};

}  // namespace dist::allreduce
