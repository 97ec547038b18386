// SPDX-License-Identifier: Apache-2.0
#include "ps/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "libdist/check.h"
#include "libdist/plan.h"

namespace dist::ps {
namespace {

constexpr std::uint64_t kAlignmentBytes = 64;

// The servers that get a part of a bucket, ascending: all, or the least loaded ones.
std::vector<int> choose_servers(const std::vector<std::uint64_t>& load, std::size_t parts) {
  std::vector<int> servers(load.size());
  std::iota(servers.begin(), servers.end(), 0);
  std::stable_sort(servers.begin(), servers.end(), [&](int a, int b) {
    return load[static_cast<std::size_t>(a)] < load[static_cast<std::size_t>(b)];
  });
  servers.resize(parts);
  std::sort(servers.begin(), servers.end());
  return servers;
}

// Appends the pieces of one server's part of a bucket.
void cut(ShardMap& map, std::size_t bucket, int server, Range part, const ShardOptions& options) {
  const auto elem_bytes = size_of(options.dtype);
  const auto most_elems = std::max<std::uint64_t>(options.max_piece.value / elem_bytes, 1);
  const auto count = static_cast<int>((part.elems() + most_elems - 1) / most_elems);
  auto& owned = map.server_elems[static_cast<std::size_t>(server)].value;
  for (int i = 0; i < count; ++i) {
    const Range range = chunk_range(part, count, i);
    map.of_server[static_cast<std::size_t>(server)].push_back(
        static_cast<std::uint32_t>(map.pieces.size()));
    map.pieces.push_back({bucket, server, range, {owned, owned + range.elems()}});
    const auto alignment = kAlignmentBytes / elem_bytes;
    owned = (owned + range.elems() + alignment - 1) / alignment * alignment;
  }
}

}  // namespace

int Roles::server_of(Rank rank) const {
  const int server = placement == Placement::colocated ? rank : rank - workers;
  return server >= 0 && server < servers ? server : -1;
}

Result<Roles> make_roles(int ranks, int servers, Placement placement) {
  const bool dedicated = placement == Placement::dedicated;
  const int most = dedicated ? ranks - 1 : ranks;
  if (dedicated && ranks < 2) {
    return Status::invalid_argument(
        "a dedicated parameter server needs at least 2 ranks, one of them a worker; there is 1 "
        "(use placement=colocated)");
  }
  if (servers < 0 || servers > most) {
    return Status::invalid_argument(
        fmt::format("{} servers do not fit into {} ranks ({}: 1 to {}, or 0 to choose)", servers,
                    ranks, dedicated ? "dedicated, one worker must remain" : "colocated", most));
  }
  if (servers == 0) servers = dedicated ? 1 : ranks;
  return Roles{dedicated ? ranks - servers : ranks, servers, placement};
}

ShardMap make_shard_map(std::vector<Bucket> buckets, ShardOptions options) {
  DIST_ASSERT(options.servers > 0, "a shard map needs a server");
  const auto servers = static_cast<std::size_t>(options.servers);
  ShardMap map{std::move(buckets), {}, {}, {}};
  map.of_server.resize(servers);
  map.server_elems.resize(servers);
  std::vector<std::uint64_t> load(servers, 0);
  const auto least = std::max<std::uint64_t>(options.min_piece.value, 1);
  for (std::size_t b = 0; b < map.buckets.size(); ++b) {
    const Range whole = map.buckets[b].range;
    const auto whole_bytes = bytes_of(Elems(whole.elems()), options.dtype).value;
    const auto parts =
        static_cast<std::size_t>(std::clamp<std::uint64_t>(whole_bytes / least, 1, servers));
    const auto chosen = choose_servers(load, parts);
    for (std::size_t i = 0; i < parts; ++i) {
      const Range part = chunk_range(whole, static_cast<int>(parts), static_cast<int>(i));
      cut(map, b, chosen[i], part, options);
      load[static_cast<std::size_t>(chosen[i])] += part.elems();
    }
  }
  return map;
}

int ShardMap::owners_below(int server) const {
  return static_cast<int>(std::count_if(of_server.begin(), of_server.begin() + server,
                                        [](const auto& owned) { return !owned.empty(); }));
}

std::pair<std::size_t, std::size_t> ShardMap::pieces_of(Range range) const {
  const auto first = std::partition_point(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    return piece.range.end <= range.begin;
  });
  const auto last = std::partition_point(
      first, pieces.end(), [&](const Piece& piece) { return piece.range.begin < range.end; });
  return {static_cast<std::size_t>(first - pieces.begin()),
          static_cast<std::size_t>(last - pieces.begin())};
}

Elems ShardMap::largest_piece(int server) const {
  Elems largest;
  for (const auto id : of_server[static_cast<std::size_t>(server)]) {
    largest = std::max(largest, Elems(pieces[id].range.elems()));
  }
  return largest;
}

UpdateLayout layout_of(const Arena& arena, const ShardMap& map, int server) {
  const auto whole = layout_of(arena);
  const auto s = static_cast<std::size_t>(server);
  UpdateLayout layout{map.server_elems[s], {}, whole.parameters};
  for (const auto id : map.of_server[s]) {
    const Piece& piece = map.pieces[id];
    // The last part that begins at or before the piece, then those that begin within it.
    auto part =
        std::upper_bound(whole.parts.begin(), whole.parts.end(), piece.range.begin,
                         [](std::uint64_t at, const auto& other) { return at < other.begin; }) -
        1;
    for (; part != whole.parts.end() && part->begin < piece.range.end; ++part) {
      const auto begin = std::max(part->begin, piece.range.begin);
      layout.parts.push_back(
          {piece.local.begin + (begin - piece.range.begin), part->parameter, part->decays});
    }
  }
  return layout;
}

double imbalance(const ShardMap& map) {
  std::vector<std::uint64_t> load(map.of_server.size(), 0);
  for (const Piece& piece : map.pieces) {
    load[static_cast<std::size_t>(piece.server)] += piece.range.elems();
  }
  const auto total = std::accumulate(load.begin(), load.end(), std::uint64_t{0});
  if (total == 0) return 1;
  const auto fullest = *std::max_element(load.begin(), load.end());
  return static_cast<double>(fullest) * static_cast<double>(load.size()) /
         static_cast<double>(total);
}

}  // namespace dist::ps
