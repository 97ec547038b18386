// SPDX-License-Identifier: Apache-2.0
// Binomial trees checked without a network: every rank count 1..9, every length 0..40, every root.
#include "allreduce/tree_plan.h"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "tests/allreduce/plan_interpreter.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::test;

template <typename Check>
void for_all_sizes(const Check& check) {
  for (int ranks = 1; ranks <= kMaxPlanRanks; ++ranks) {
    for (std::uint64_t elems = 0; elems <= kMaxPlanElems; ++elems) {
      INFO(ranks << " ranks, " << elems << " elements");
      check(ranks, elems);
    }
  }
}

std::size_t log2_up(int ranks) {
  return static_cast<std::size_t>(std::bit_width(static_cast<unsigned>(ranks - 1)));
}

TEST_CASE("a broadcast reaches everybody from every root in few rounds") {
  for_all_sizes([](int ranks, std::uint64_t elems) {
    for (Rank root = 0; root < ranks; ++root) {
      const auto plans = plans_of(
          ranks, [&](Rank r) { return allreduce::tree_broadcast_plan(r, ranks, elems, root); });
      REQUIRE(check_contributions(plans, elems, 1u << root, [&](Rank) {
                return Range{0, elems};
              }) == "");
      for (const Plan& plan : plans) REQUIRE(plan.rounds.size() <= log2_up(ranks));
      std::uint64_t total = 0;
      for (const Plan& plan : plans) total += sent_elems(plan);
      REQUIRE(total == elems * static_cast<std::uint64_t>(ranks - 1));
    }
  });
}

TEST_CASE("a reduction brings every contribution to every root once") {
  for_all_sizes([](int ranks, std::uint64_t elems) {
    for (Rank root = 0; root < ranks; ++root) {
      const auto plans = plans_of(
          ranks, [&](Rank r) { return allreduce::tree_reduce_plan(r, ranks, elems, root); });
      REQUIRE(check_contributions(plans, elems, everyone(ranks), [&](Rank r) {
                return r == root ? Range{0, elems} : Range{};
              }) == "");
      for (const Plan& plan : plans) REQUIRE(plan.rounds.size() <= log2_up(ranks));
    }
  });
}

TEST_CASE("neighbours are combined first, counted upward from the root") {
  auto values = own_terms(6, 1);
  const auto plans = plans_of(6, [&](Rank r) { return allreduce::tree_reduce_plan(r, 6, 1, 1); });
  REQUIRE(run_plans(plans, &values, combine_terms) == "");
  REQUIRE(values[1][0] == "(((bc)(de))(fa))");
}

TEST_CASE("the all-reduce gives every rank the same term with every contribution") {
  for_all_sizes([](int ranks, std::uint64_t elems) {
    const auto plans =
        plans_of(ranks, [&](Rank r) { return allreduce::tree_all_reduce_plan(r, ranks, elems); });
    REQUIRE(check_contributions(plans, elems, everyone(ranks), [&](Rank) {
              return Range{0, elems};
            }) == "");
    auto values = own_terms(ranks, elems);
    REQUIRE(run_plans(plans, &values, combine_terms) == "");
    REQUIRE(std::all_of(values.begin(), values.end(),
                        [&](const auto& mine) { return mine == values.front(); }));
  });
}

}  // namespace
