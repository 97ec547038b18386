// SPDX-License-Identifier: Apache-2.0
// Norms over gradients that several servers hold in parts: each tells the others the squares of its
// part, and all add them up alike.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "libdist/status.h"
#include "libdist/transport/transport.h"
#include "ps/shard.h"

namespace dist::ps {

/// One server's side, once a step. Of the progress thread alone. Its memory must live until the
/// transport is closed or every operation has ended. Between two steps nothing is in flight.
class NormSum {
 public:
  /// Among the servers that own something, of which `server` is one if it takes part.
  NormSum(const Roles& roles, const ShardMap& map, int server);

  /// This server's squares of the step that changes `version`. Sends them to the others and asks
  /// for theirs: as many numbers of the same version.
  void begin(Transport& transport, std::uint64_t version, const std::vector<double>& squares);

  /// From begin() until advance() has given the sum.
  bool under_way() const { return !own_.empty(); }

  /// The sum in the order of the servers, so that all have the same bits, when all have told
  /// theirs. Errors: a server that was lost, then `lost` says its rank; protocol, another version.
  Result<std::optional<std::vector<double>>> advance(Transport& transport,
                                                     std::optional<Rank>* lost);

  /// The rank whose squares have not come, or that has not taken this server's.
  std::optional<Rank> missing() const;

  TimePoint since() const { return since_; }

 private:
  struct Other {
    Rank rank = 0;
    std::vector<std::uint64_t> words;
    std::optional<Operation> sending;
    std::optional<Operation> receiving;
  };

  std::vector<Other> others_;  // by server
  std::size_t own_place_ = 0;  // so many of them come before this one
  std::vector<std::uint64_t> own_;
  TimePoint since_;
};

}  // namespace dist::ps
