// SPDX-License-Identifier: Apache-2.0
// Places are ranks counted from the root. The parent of place p is p without its lowest set bit.
#include "allreduce/tree_plan.h"

#include <bit>

#include "libdist/check.h"

namespace dist::allreduce {
namespace {

struct Tree {
  Tree(Rank rank, int size, Rank top) : ranks(size), root(top), place((rank - top + size) % size) {
    DIST_ASSERT(rank >= 0 && rank < size, "tree plan: rank outside the group");
    DIST_ASSERT(top >= 0 && top < size, "tree plan: root outside the group");
  }

  // The distance to the parent; beyond all places for the root.
  int height() const {
    const auto bits = static_cast<unsigned>(place);
    return static_cast<int>(place == 0 ? std::bit_ceil(static_cast<unsigned>(ranks))
                                       : bits & (~bits + 1));
  }
  Rank rank_of(int other) const { return (other + root) % ranks; }

  int ranks;
  Rank root;
  int place;
};

}  // namespace

Plan tree_broadcast_plan(Rank rank, int ranks, std::uint64_t elems, Rank root) {
  const Tree tree(rank, ranks, root);
  const Range whole{0, elems};
  Plan plan{elems, {}, whole};
  if (tree.place != 0) {
    plan.rounds.push_back(
        {rank, {}, tree.rank_of(tree.place - tree.height()), whole, Action::copy});
  }
  for (int distance = tree.height() / 2; distance > 0; distance /= 2) {
    if (tree.place + distance >= ranks) continue;
    plan.rounds.push_back({tree.rank_of(tree.place + distance), whole, rank, {}, Action::copy});
  }
  return plan;
}

Plan tree_reduce_plan(Rank rank, int ranks, std::uint64_t elems, Rank root) {
  const Tree tree(rank, ranks, root);
  const Range whole{0, elems};
  Plan plan{elems, {}, tree.place == 0 ? whole : Range{}};
  for (int distance = 1; distance < tree.height(); distance *= 2) {
    if (tree.place + distance >= ranks) break;
    plan.rounds.push_back({rank, {}, tree.rank_of(tree.place + distance), whole, Action::reduce});
  }
  if (tree.place != 0) {
    plan.rounds.push_back(
        {tree.rank_of(tree.place - tree.height()), whole, rank, {}, Action::reduce});
  }
  return plan;
}

Plan tree_all_reduce_plan(Rank rank, int ranks, std::uint64_t elems) {
  Plan plan = tree_reduce_plan(rank, ranks, elems, 0);
  const Plan down = tree_broadcast_plan(rank, ranks, elems, 0);
  plan.rounds.insert(plan.rounds.end(), down.rounds.begin(), down.rounds.end());
  plan.result = down.result;
  return plan;
}

}  // namespace dist::allreduce
