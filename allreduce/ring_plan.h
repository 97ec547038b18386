// SPDX-License-Identifier: Apache-2.0
// The ring and the chain as pure functions of rank, rank count and length. For long messages: they
// send no element oftener than they must.
#pragma once

#include <cstdint>

#include "libdist/plan.h"

namespace dist::allreduce {

/// Reduce-scatter, then all-gather, round a ring in 2 (ranks - 1) rounds; each rank sends 2 (ranks
/// - 1) / ranks of the elements. Chunk c is summed in the order of first_summand(c) upward. Any
/// ranks >= 1, any length.
Plan ring_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems);

/// The first half alone. Chunk c ends on rank c - 1 + shift (modulo ranks), summed from rank
/// first_summand(c) + shift upward: with shift 0 as in the all-reduce, with shift 1 each rank ends
/// with the chunk of its own number.
Plan ring_reduce_scatter_plan(Rank rank, int ranks, std::uint64_t elems, int shift);

/// The second half alone: chunk c goes from rank c - 1 + shift to all.
Plan ring_all_gather_plan(Rank rank, int ranks, std::uint64_t elems, int shift);

/// The root's elements handed down the chain root -> root + 1 -> ... in `chunks` pieces, so that
/// the hops overlap.
Plan chain_broadcast_plan(Rank rank, int ranks, std::uint64_t elems, Rank root, int chunks);

/// The same chain walked the other way: root = g[root] op (g[root + 1] op (...)). Overwrites the
/// elements of the ranks between.
Plan chain_reduce_plan(Rank rank, int ranks, std::uint64_t elems, Rank root, int chunks);

}  // namespace dist::allreduce
