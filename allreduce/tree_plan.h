// SPDX-License-Identifier: Apache-2.0
// Binomial trees as pure functions: everything in about log2(ranks) rounds, for short messages. Any
// ranks >= 1, any length.
#pragma once

#include <cstdint>

#include "libdist/plan.h"

namespace dist::allreduce {

/// The root's elements to all, doubling the number of ranks that have them each round.
Plan tree_broadcast_plan(Rank rank, int ranks, std::uint64_t elems, Rank root);

/// All elements into the root's. Neighbours are combined first, the one nearer to the root (counted
/// upward from it, modulo ranks) on the left: ((g[0] g[1]) (g[2] g[3])) ... Overwrites the elements
/// of other ranks.
Plan tree_reduce_plan(Rank rank, int ranks, std::uint64_t elems, Rank root);

/// The reduction to rank 0, then the broadcast from it: every rank gets the same bits.
Plan tree_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems);

}  // namespace dist::allreduce
