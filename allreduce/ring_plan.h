// SPDX-License-Identifier: Apache-2.0
// The ring as a pure function of rank, rank count and length.
#pragma once

#include <cstdint>

#include "libdist/plan.h"

namespace dist::allreduce {

/// Reduce-scatter, then all-gather, round a ring in 2 (ranks - 1) rounds; each rank sends 2 (ranks
/// - 1) / ranks of the elements. Chunk c is summed in the order of first_summand(c) upward. Any
/// ranks
/// >= 1, any length.
Plan ring_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems);

/// Rank 0's elements handed down the chain 0 -> 1 -> ... in `chunks` pieces, so that the hops
/// overlap: rank r passes chunk c on in round r + c.
Plan broadcast_plan(Rank rank, int ranks, std::uint64_t elems, int chunks);

}  // namespace dist::allreduce
