// SPDX-License-Identifier: Apache-2.0
#include "allreduce/ring_plan.h"

#include "libdist/check.h"

namespace dist::allreduce {
namespace {

// A number modulo n, never negative.
int wrap(int number, int n) { return ((number % n) + n) % n; }

}  // namespace

Plan ring_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems) {
  DIST_ASSERT(ranks >= 1 && rank >= 0 && rank < ranks, "ring plan: rank outside the world");
  const Range whole{0, elems};
  const auto chunk = [&](int c) { return chunk_range(whole, ranks, wrap(c, ranks)); };
  const Rank right = wrap(rank + 1, ranks);
  const Rank left = wrap(rank - 1, ranks);
  Plan plan{elems, {}};
  plan.rounds.reserve(2 * static_cast<std::size_t>(ranks - 1));
  for (int k = 0; k < ranks - 1; ++k) {
    plan.rounds.push_back({right, chunk(rank - k), left, chunk(rank - k - 1), Action::reduce});
  }
  for (int k = 0; k < ranks - 1; ++k) {
    plan.rounds.push_back({right, chunk(rank + 1 - k), left, chunk(rank - k), Action::copy});
  }
  return plan;
}

Plan broadcast_plan(Rank rank, int ranks, std::uint64_t elems, int chunks) {
  DIST_ASSERT(ranks >= 1 && rank >= 0 && rank < ranks, "broadcast plan: rank outside the world");
  DIST_ASSERT(chunks >= 1, "broadcast plan: at least one chunk");
  Plan plan{elems, {}};
  if (ranks == 1) return plan;
  const auto chunk = [&](int c) {
    return c >= 0 && c < chunks ? chunk_range({0, elems}, chunks, c) : Range{};
  };
  const bool first = rank == 0;
  const bool last = rank == ranks - 1;
  for (int k = 0; k < chunks + ranks - 2; ++k) {
    plan.rounds.push_back({last ? rank : rank + 1, last ? Range{} : chunk(k - rank),
                           first ? rank : rank - 1, first ? Range{} : chunk(k - rank + 1),
                           Action::copy});
  }
  return plan;
}

}  // namespace dist::allreduce
