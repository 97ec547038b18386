// SPDX-License-Identifier: Apache-2.0
#include "allreduce/ring_plan.h"

#include "libdist/check.h"

namespace dist::allreduce {
namespace {

// A number modulo n, never negative.
int wrap(int number, int n) { return ((number % n) + n) % n; }

void check_rank(Rank rank, int ranks) {
  DIST_ASSERT(ranks >= 1 && rank >= 0 && rank < ranks, "ring plan: rank outside the group");
}

// Elements flow from place 0 of the chain to place ranks - 1: chunk c leaves place p in round p +
// c.
Plan chain_plan(int place, int ranks, std::uint64_t elems, int chunks, Action action) {
  DIST_ASSERT(chunks >= 1, "chain plan: at least one chunk");
  Plan plan{elems, {}, {}};
  if (ranks == 1) return plan;
  const auto chunk = [&](int c) {
    return c >= 0 && c < chunks ? chunk_range({0, elems}, chunks, c) : Range{};
  };
  const bool first = place == 0;
  const bool last = place == ranks - 1;
  for (int k = 0; k < chunks + ranks - 2; ++k) {
    plan.rounds.push_back({last ? place : place + 1, last ? Range{} : chunk(k - place),
                           first ? place : place - 1, first ? Range{} : chunk(k - place + 1),
                           action});
  }
  return plan;
}

}  // namespace

Plan ring_reduce_scatter_plan(Rank rank, int ranks, std::uint64_t elems, int shift) {
  check_rank(rank, ranks);
  const auto chunk = [&](int c) { return chunk_range({0, elems}, ranks, wrap(c, ranks)); };
  Plan plan{elems, {}, chunk(rank + 1 - shift)};
  plan.rounds.reserve(2 * static_cast<std::size_t>(ranks - 1));
  for (int k = 0; k < ranks - 1; ++k) {
    plan.rounds.push_back({wrap(rank + 1, ranks), chunk(rank - shift - k), wrap(rank - 1, ranks),
                           chunk(rank - shift - k - 1), Action::reduce_received_first});
  }
  return plan;
}

Plan ring_all_gather_plan(Rank rank, int ranks, std::uint64_t elems, int shift) {
  check_rank(rank, ranks);
  const auto chunk = [&](int c) { return chunk_range({0, elems}, ranks, wrap(c, ranks)); };
  Plan plan{elems, {}, {0, elems}};
  for (int k = 0; k < ranks - 1; ++k) {
    plan.rounds.push_back({wrap(rank + 1, ranks), chunk(rank + 1 - shift - k),
                           wrap(rank - 1, ranks), chunk(rank - shift - k), Action::copy});
  }
  return plan;
}

Plan ring_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems) {
  Plan plan = ring_reduce_scatter_plan(rank, ranks, elems, 0);
  const Plan gather = ring_all_gather_plan(rank, ranks, elems, 0);
  plan.rounds.insert(plan.rounds.end(), gather.rounds.begin(), gather.rounds.end());
  plan.result = gather.result;
  return plan;
}

Plan chain_broadcast_plan(Rank rank, int ranks, std::uint64_t elems, Rank root, int chunks) {
  check_rank(rank, ranks);
  check_rank(root, ranks);
  Plan plan = chain_plan(wrap(rank - root, ranks), ranks, elems, chunks, Action::copy);
  for (Round& round : plan.rounds) {
    round.to = wrap(round.to + root, ranks);
    round.from = wrap(round.from + root, ranks);
  }
  plan.result = {0, elems};
  return plan;
}

Plan chain_reduce_plan(Rank rank, int ranks, std::uint64_t elems, Rank root, int chunks) {
  check_rank(rank, ranks);
  check_rank(root, ranks);
  Plan plan = chain_plan(wrap(root - 1 - rank, ranks), ranks, elems, chunks, Action::reduce);
  for (Round& round : plan.rounds) {
    round.to = wrap(root - 1 - round.to, ranks);
    round.from = wrap(root - 1 - round.from, ranks);
  }
  if (rank == root) plan.result = {0, elems};
  return plan;
}

}  // namespace dist::allreduce
