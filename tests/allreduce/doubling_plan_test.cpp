// SPDX-License-Identifier: Apache-2.0
// Recursive doubling and halving checked without a network: every rank count 1..9, every length
// 0..40.
#include "allreduce/doubling_plan.h"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "tests/allreduce/plan_interpreter.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::test;

using MakePlan = Plan (*)(Rank rank, int ranks, std::uint64_t elems);
const std::vector<std::pair<std::string, MakePlan>> kPlans = {
    {"doubling", allreduce::doubling_all_reduce_plan},
    {"halving", allreduce::halving_all_reduce_plan},
};

template <typename Check>
void for_all_sizes(const Check& check) {
  for (const auto& [name, make] : kPlans) {
    for (int ranks = 1; ranks <= kMaxPlanRanks; ++ranks) {
      for (std::uint64_t elems = 0; elems <= kMaxPlanElems; ++elems) {
        INFO(name << ", " << ranks << " ranks, " << elems << " elements");
        check(ranks, elems,
              plans_of(ranks, [&, plan = make](Rank r) { return plan(r, ranks, elems); }));
      }
    }
  }
}

TEST_CASE("every rank ends with every contribution once") {
  for_all_sizes([](int ranks, std::uint64_t elems, const std::vector<Plan>& plans) {
    REQUIRE(check_contributions(plans, elems, everyone(ranks), [&](Rank) {
              return Range{0, elems};
            }) == "");
  });
}

TEST_CASE("every rank computes the same term, lower ranks on the left") {
  for_all_sizes([](int ranks, std::uint64_t elems, const std::vector<Plan>& plans) {
    auto values = own_terms(ranks, elems);
    REQUIRE(run_plans(plans, &values, combine_terms) == "");
    REQUIRE(std::all_of(values.begin(), values.end(),
                        [&](const auto& mine) { return mine == values.front(); }));
  });
  const auto term = [](MakePlan make, int ranks) {
    auto values = own_terms(ranks, 1);
    const auto plans = plans_of(ranks, [&](Rank r) { return make(r, ranks, 1); });
    REQUIRE(run_plans(plans, &values, combine_terms) == "");
    return values[0][0];
  };
  REQUIRE(term(allreduce::doubling_all_reduce_plan, 4) == "((ab)(cd))");
  REQUIRE(term(allreduce::doubling_all_reduce_plan, 6) == "(((ab)(cd))(ef))");
  REQUIRE(term(allreduce::halving_all_reduce_plan, 4) == "((ac)(bd))");
}

TEST_CASE("a power of two takes log2 rounds, others two more; halving sends what a ring sends") {
  for (int ranks = 2; ranks <= kMaxPlanRanks; ++ranks) {
    const auto bits = static_cast<std::size_t>(std::bit_width(static_cast<unsigned>(ranks)) - 1);
    const bool power = std::has_single_bit(static_cast<unsigned>(ranks));
    const std::uint64_t elems = 64;
    for (Rank r = 0; r < ranks; ++r) {
      const Plan doubling = allreduce::doubling_all_reduce_plan(r, ranks, elems);
      const Plan halving = allreduce::halving_all_reduce_plan(r, ranks, elems);
      REQUIRE(doubling.rounds.size() <= bits + (power ? 0 : 2));
      REQUIRE(halving.rounds.size() <= 2 * bits + (power ? 0 : 2));
      if (!power) continue;
      const auto n = static_cast<std::uint64_t>(ranks);
      REQUIRE(sent_elems(doubling) == bits * elems);
      REQUIRE(sent_elems(halving) == 2 * (n - 1) * elems / n);
    }
  }
}

}  // namespace
