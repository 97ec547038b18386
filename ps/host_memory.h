// SPDX-License-Identifier: Apache-2.0
// The arenas of all ranks where all of them stand on one host: servers read gradients where workers
// made them, and write parameters where workers read them.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/host/host_group.h"
#include "libdist/memory/mapping.h"
#include "libdist/options.h"
#include "libdist/progress.h"
#include "libdist/status.h"

namespace dist::ps {

class HostMemory {
 public:
  /// Collective over the world. With `share_parameters` all arenas show one copy of the parameters,
  /// which are rank 0's at first; each rank gives its own back by give_back_parameters(), or by the
  /// destructor. Error `unavailable`, on all ranks alike, where some rank does not ask for it, has
  /// another `layout_hash`, or cannot reach another's memory. Progress and arena must outlive it.
  static Result<std::unique_ptr<HostMemory>> meet(Progress& progress, const Options& options,
                                                  Arena& arena, bool wanted, bool share_parameters,
                                                  std::uint64_t layout_hash);
  ~HostMemory() { static_cast<void>(give_back_parameters()); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  /// Of a rank's arena; read while its worker does not write to them.
  std::span<const std::byte> gradients(Rank rank, Range range) const {
    return part(gradients_[static_cast<std::size_t>(rank)], range);
  }

  /// Where a rank's worker reads its parameters; written while it does not.
  std::span<std::byte> parameters(Rank rank, Range range) const {
    return part(shares_parameters() ? shared_ : parameters_[static_cast<std::size_t>(rank)], range);
  }

  bool shares_parameters() const { return shared_.shareable(); }

  /// From now on the arena's parameters are its own, with what they show now. Nobody may write to
  /// them meanwhile.
  Status give_back_parameters();

 private:
  HostMemory(Arena& arena, std::unique_ptr<HostGroup> group)
      : arena_(arena), group_(std::move(group)) {}
  Status attach(bool share_parameters);
  std::span<std::byte> part(const Mapping& memory, Range range) const;

  Arena& arena_;
  std::unique_ptr<HostGroup> group_;
  std::vector<Mapping> gradients_;   // by rank
  std::vector<Mapping> parameters_;  // by rank, unless shared
  Mapping shared_;
  bool shows_shared_ = false;
};

}  // namespace dist::ps
