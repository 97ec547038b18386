// SPDX-License-Identifier: Apache-2.0
// Which ranks share a host, as every rank of the world sees it alike.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// The hosts in the order of their lowest ranks; each host's ranks ascend.
struct Hosts {
  std::vector<std::vector<Rank>> ranks_of;

  bool one() const { return ranks_of.size() == 1; }
  /// Whether every host has the same number of ranks.
  bool even() const;
  /// The host of a rank, and the rank's place on it.
  std::size_t host_of(Rank rank) const;
  std::size_t place_of(Rank rank) const;
  /// The ranks at the same place of all hosts; only where even().
  std::vector<Rank> at_place(std::size_t place) const;
};

/// Pure: ids[r] is a number that rank r shares with the ranks of its host alone.
Hosts group_by_host(std::span<const std::uint64_t> ids);

/// Collective over the world. `ranks_per_host` other than 0 pretends that so many successive ranks
/// share a host each, whatever is true. `sum_words` sums over all ranks, in place.
Result<Hosts> find_hosts(Rank rank, int ranks, int ranks_per_host,
                         const std::function<Status(std::span<std::uint64_t>)>& sum_words);

/// Drawn anew by the kernel at every start: tells hosts apart.
std::uint64_t host_id();

}  // namespace dist
