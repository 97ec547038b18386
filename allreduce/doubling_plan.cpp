// SPDX-License-Identifier: Apache-2.0
#include "allreduce/doubling_plan.h"

#include <bit>

#include "libdist/check.h"

namespace dist::allreduce {
namespace {

// The power of two that remains when the excess ranks are folded into their neighbours.
struct Core {
  explicit Core(int ranks)
      : size(static_cast<int>(std::bit_floor(static_cast<unsigned>(ranks)))),
        excess(ranks - size) {}

  bool folded(Rank rank) const { return rank < 2 * excess && rank % 2 == 0; }
  bool hosts(Rank rank) const { return rank < 2 * excess && rank % 2 == 1; }
  int member_of(Rank rank) const { return rank < 2 * excess ? rank / 2 : rank - excess; }
  Rank rank_of(int member) const { return member < excess ? 2 * member + 1 : member + excess; }

  int size;
  int excess;
};

// Whose elements come first when `member` has received those of `partner`.
Action in_order(int member, int partner) {
  return partner < member ? Action::reduce_received_first : Action::reduce;
}

void swap_all(Plan& plan, const Core& core, int member) {
  const Range whole{0, plan.elems};
  for (int distance = 1; distance < core.size; distance *= 2) {
    const int partner = member ^ distance;
    const Rank peer = core.rank_of(partner);
    plan.rounds.push_back({peer, whole, peer, whole, in_order(member, partner)});
  }
}

void halve_and_gather(Plan& plan, const Core& core, int member) {
  std::vector<Range> kept{{0, plan.elems}};
  std::vector<Range> given;
  for (int distance = core.size / 2; distance > 0; distance /= 2) {
    const int partner = member ^ distance;
    const Rank peer = core.rank_of(partner);
    const int half = partner < member ? 1 : 0;
    const Range range = kept.back();
    kept.push_back(chunk_range(range, 2, half));
    given.push_back(chunk_range(range, 2, 1 - half));
    plan.rounds.push_back({peer, given.back(), peer, kept.back(), in_order(member, partner)});
  }
  for (int distance = 1; distance < core.size; distance *= 2) {
    const Rank peer = core.rank_of(member ^ distance);
    plan.rounds.push_back({peer, kept.back(), peer, given.back(), Action::copy});
    kept.pop_back();
    given.pop_back();
  }
}

using Middle = void (*)(Plan& plan, const Core& core, int member);

Plan fold_around(Rank rank, int ranks, std::uint64_t elems, Middle middle) {
  DIST_ASSERT(ranks >= 1 && rank >= 0 && rank < ranks, "doubling plan: rank outside the group");
  const Core core(ranks);
  const Range whole{0, elems};
  Plan plan{elems, {}, whole};
  if (core.folded(rank)) {
    plan.rounds.push_back({rank + 1, whole, rank, {}, Action::copy});
    plan.rounds.push_back({rank, {}, rank + 1, whole, Action::copy});
    return plan;
  }
  if (core.hosts(rank)) {
    plan.rounds.push_back({rank, {}, rank - 1, whole, Action::reduce_received_first});
  }
  middle(plan, core, core.member_of(rank));
  if (core.hosts(rank)) plan.rounds.push_back({rank - 1, whole, rank, {}, Action::copy});
  return plan;
}

}  // namespace

Plan doubling_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems) {
  return fold_around(rank, ranks, elems, swap_all);
}

Plan halving_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems) {
  return fold_around(rank, ranks, elems, halve_and_gather);
}

}  // namespace dist::allreduce
