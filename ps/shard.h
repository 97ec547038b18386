// SPDX-License-Identifier: Apache-2.0
// Who works, who serves, and which server owns which elements. Pure: every rank computes the same.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "libdist/bucket/bucket.h"
#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/types.h"
#include "libdist/update.h"

namespace dist::ps {

/// The parts ranks play. Workers are ranks 0 .. workers - 1. Servers are ranks 0 .. servers - 1,
/// which are workers too (colocated), or the ranks after the workers (dedicated).
struct Roles {
  int workers = 1;
  int servers = 1;
  Placement placement = Placement::colocated;

  Rank worker_rank(int worker) const { return worker; }
  Rank server_rank(int server) const {
    return placement == Placement::colocated ? server : workers + server;
  }
  /// The number of the worker (or server) on a rank, -1 where there is none.
  int worker_of(Rank rank) const { return rank < workers ? rank : -1; }
  int server_of(Rank rank) const;
};

/// `servers` = 0 chooses: one a rank where colocated, one where dedicated. Error: they do not fit.
Result<Roles> make_roles(int ranks, int servers, Placement placement);

/// The unit of exchange: neighbouring elements of one bucket that one server owns.
struct Piece {
  std::size_t bucket = 0;
  int server = 0;
  Range range;  ///< in the arena
  Range local;  ///< in the server's own memory
};

struct ShardOptions {
  int servers = 1;
  DType dtype = DType::f32;
  /// A bucket that would give each server less than this goes to fewer servers.
  Bytes min_piece = 16_KiB;
  /// A server's part of a bucket is cut into pieces of at most this, so that one can be summed and
  /// sent back while the next one arrives, and none that is urgent waits long for one that is not.
  Bytes max_piece = 1_MiB;
};

/// Which server owns what. Pieces cover all buckets without gaps, in arena order, so the pieces of
/// a bucket, and within it those of a server, are neighbours.
struct ShardMap {
  std::vector<Bucket> buckets;
  std::vector<Piece> pieces;
  std::vector<std::vector<std::uint32_t>> of_server;  ///< per server its pieces, ascending
  std::vector<Elems> server_elems;                    ///< size of each server's own memory

  int servers() const { return static_cast<int>(of_server.size()); }

  /// How many servers below `server` own something. Only those that do write a shard of a
  /// checkpoint, and this is its number.
  int owners_below(int server) const;

  /// The pieces [first, last) that hold any of the elements of a range of the arena.
  std::pair<std::size_t, std::size_t> pieces_of(Range range) const;

  /// Elements of a server's largest piece.
  Elems largest_piece(int server) const;
};

/// Divides each bucket nearly evenly over all servers; small ones go to the servers that so far own
/// least. Within a server's memory every piece begins on a 64-byte boundary.
ShardMap make_shard_map(std::vector<Bucket> buckets, ShardOptions options);

/// Which parameters of the arena a server's own elements belong to.
UpdateLayout layout_of(const Arena& arena, const ShardMap& map, int server);

/// Elements of the fullest server over the mean of all servers; 1 is perfect.
double imbalance(const ShardMap& map);

}  // namespace dist::ps
