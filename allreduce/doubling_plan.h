// SPDX-License-Identifier: Apache-2.0
// All-reduce between partners whose distance doubles, as pure functions. Where the ranks are no
// power of two, each of the first 2 x excess even ranks hands its elements to its odd neighbour
// first and gets the result from it at the end. Any ranks >= 1, any length.
//
// A pair always combines lower number op higher number, so all ranks end with the same bits.
#pragma once

#include <cstdint>

#include "libdist/plan.h"

namespace dist::allreduce {

/// Recursive doubling: partners swap and combine everything, log2(ranks) rounds. For short
/// messages.
Plan doubling_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems);

/// Recursive halving, then doubling: partners swap halves, then halves of halves, and gather the
/// results the same way back. As few bytes as a ring in 2 log2(ranks) rounds, for middle sizes.
Plan halving_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems);

}  // namespace dist::allreduce
