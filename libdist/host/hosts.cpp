// SPDX-License-Identifier: Apache-2.0
#include "libdist/host/hosts.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "libdist/check.h"

namespace dist {

bool Hosts::even() const {
  return std::all_of(ranks_of.begin(), ranks_of.end(), [&](const std::vector<Rank>& ranks) {
    return ranks.size() == ranks_of.front().size();
  });
}

std::size_t Hosts::host_of(Rank rank) const {
  const auto host = std::find_if(ranks_of.begin(), ranks_of.end(), [&](const auto& ranks) {
    return std::binary_search(ranks.begin(), ranks.end(), rank);
  });
  DIST_ASSERT(host != ranks_of.end(), "a rank without a host");
  return static_cast<std::size_t>(host - ranks_of.begin());
}

std::size_t Hosts::place_of(Rank rank) const {
  const auto& ranks = ranks_of[host_of(rank)];
  return static_cast<std::size_t>(std::lower_bound(ranks.begin(), ranks.end(), rank) -
                                  ranks.begin());
}

std::vector<Rank> Hosts::at_place(std::size_t place) const {
  DIST_ASSERT(even(), "hosts with different numbers of ranks");
  std::vector<Rank> ranks;
  ranks.reserve(ranks_of.size());
  for (const auto& host : ranks_of) ranks.push_back(host[place]);
  return ranks;
}

Hosts group_by_host(std::span<const std::uint64_t> ids) {
  Hosts hosts;
  std::vector<std::uint64_t> seen;
  for (std::size_t rank = 0; rank < ids.size(); ++rank) {
    const auto known = std::find(seen.begin(), seen.end(), ids[rank]);
    const auto host = static_cast<std::size_t>(known - seen.begin());
    if (known == seen.end()) {
      seen.push_back(ids[rank]);
      hosts.ranks_of.emplace_back();
    }
    hosts.ranks_of[host].push_back(static_cast<Rank>(rank));
  }
  return hosts;
}

Result<Hosts> find_hosts(Rank rank, int ranks, int ranks_per_host,
                         const std::function<Status(std::span<std::uint64_t>)>& sum_words) {
  std::vector<std::uint64_t> ids(static_cast<std::size_t>(ranks));
  ids[static_cast<std::size_t>(rank)] =
      ranks_per_host > 0 ? static_cast<std::uint64_t>(rank / ranks_per_host) : host_id();
  DIST_TRY_BECAUSE(sum_words(ids), "which ranks share a host");
  return group_by_host(ids);
}

std::uint64_t host_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(file, text);
  return std::hash<std::string>()(text);
}

}  // namespace dist
