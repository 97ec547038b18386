// SPDX-License-Identifier: Apache-2.0
// Ring and chain checked without a network: every rank count 1..9, every length 0..40.
#include "allreduce/ring_plan.h"

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

// "((cd)a)b" with all brackets, for the chunk whose sum begins at rank `first`.
std::string ring_term(int first, int ranks) {
  const auto symbol = [&](int r) { return std::string(1, static_cast<char>('a' + r % ranks)); };
  std::string term = symbol(first);
  for (int i = 1; i < ranks; ++i) term = combine_terms(term, symbol(first + i));
  return term;
}

Range own_chunk(Rank owner, int ranks, std::uint64_t elems) {
  return chunk_range({0, elems}, ranks, (owner + ranks) % ranks);
}

TEST_CASE("the all-reduce holds every contribution once, on every rank") {
  for_all_sizes([](int ranks, std::uint64_t elems) {
    const auto plans =
        plans_of(ranks, [&](Rank r) { return allreduce::ring_all_reduce_plan(r, ranks, elems); });
    REQUIRE(check_contributions(plans, elems, everyone(ranks), [&](Rank) {
              return Range{0, elems};
            }) == "");
  });
}

TEST_CASE("chunk c of the all-reduce is summed from rank c upward, on every rank") {
  for (int ranks = 1; ranks <= kMaxPlanRanks; ++ranks) {
    for (const std::uint64_t elems : {0, 1, 2, 7, 8, 9, 40}) {
      auto values = own_terms(ranks, elems);
      const auto plans =
          plans_of(ranks, [&](Rank r) { return allreduce::ring_all_reduce_plan(r, ranks, elems); });
      REQUIRE(run_plans(plans, &values, combine_terms) == "");
      for (int c = 0; c < ranks; ++c) {
        const Range chunk = chunk_range({0, elems}, ranks, c);
        for (auto i = chunk.begin; i < chunk.end; ++i) {
          for (const auto& mine : values) {
            REQUIRE(mine[i] == ring_term(first_summand(c), ranks));
          }
        }
      }
    }
  }
}

TEST_CASE("a reduce-scatter leaves chunk c on rank c - 1 + shift, summed from rank c + shift") {
  for (const int shift : {0, 1}) {
    for_all_sizes([&](int ranks, std::uint64_t elems) {
      const auto plans = plans_of(ranks, [&](Rank r) {
        return allreduce::ring_reduce_scatter_plan(r, ranks, elems, shift);
      });
      REQUIRE(check_contributions(plans, elems, everyone(ranks), [&](Rank r) {
                return own_chunk(r + 1 - shift, ranks, elems);
              }) == "");
      auto values = own_terms(ranks, elems);
      REQUIRE(run_plans(plans, &values, combine_terms) == "");
      for (int r = 0; r < ranks; ++r) {
        const Range chunk = plans[static_cast<std::size_t>(r)].result;
        for (auto i = chunk.begin; i < chunk.end; ++i) {
          REQUIRE(values[static_cast<std::size_t>(r)][i] == ring_term(r + 1, ranks));
        }
      }
    });
  }
}

TEST_CASE("an all-gather hands out the chunks as a reduce-scatter of the same shift leaves them") {
  for (const int shift : {0, 1}) {
    for_all_sizes([&](int ranks, std::uint64_t elems) {
      std::vector<std::vector<int>> values;
      std::vector<int> whole(elems);
      for (int r = 0; r < ranks; ++r) {
        auto& mine = values.emplace_back(elems, -1);
        const Range chunk = own_chunk(r + 1 - shift, ranks, elems);
        for (auto i = chunk.begin; i < chunk.end; ++i) mine[i] = whole[i] = static_cast<int>(i);
      }
      const auto plans = plans_of(
          ranks, [&](Rank r) { return allreduce::ring_all_gather_plan(r, ranks, elems, shift); });
      REQUIRE(run_plans(plans, &values, std::plus<>()) == "");
      REQUIRE(values == std::vector(static_cast<std::size_t>(ranks), whole));
      for (const Plan& plan : plans) REQUIRE(plan.result == Range{0, elems});
    });
  }
}

TEST_CASE("a rank sends 2 (N - 1) / N of the elements in 2 (N - 1) rounds") {
  for (int ranks = 1; ranks <= kMaxPlanRanks; ++ranks) {
    const auto n = static_cast<std::uint64_t>(ranks);
    const auto elems = 12 * n;
    for (Rank rank = 0; rank < ranks; ++rank) {
      const Plan plan = allreduce::ring_all_reduce_plan(rank, ranks, elems);
      REQUIRE(plan.rounds.size() == 2 * (n - 1));
      REQUIRE(sent_elems(plan) == 2 * (n - 1) * elems / n);
    }
  }
  // Lengths that do not divide: the total over the ranks is exact all the same.
  std::uint64_t total = 0;
  for (Rank rank = 0; rank < 5; ++rank) {
    total += sent_elems(allreduce::ring_all_reduce_plan(rank, 5, 13));
  }
  REQUIRE(total == 2 * 4 * 13);
}

TEST_CASE("a chain broadcast gives everybody the root's elements and passes each on once") {
  for_all_sizes([](int ranks, std::uint64_t elems) {
    for (Rank root = 0; root < ranks; ++root) {
      for (const int chunks : {1, 3, 8}) {
        const auto plans = plans_of(ranks, [&](Rank r) {
          return allreduce::chain_broadcast_plan(r, ranks, elems, root, chunks);
        });
        REQUIRE(check_contributions(plans, elems, 1u << root, [&](Rank) {
                  return Range{0, elems};
                }) == "");
        for (Rank r = 0; r < ranks; ++r) {
          const bool last = r == (root + ranks - 1) % ranks;
          REQUIRE(sent_elems(plans[static_cast<std::size_t>(r)]) == (last ? 0 : elems));
        }
      }
    }
  });
}

TEST_CASE("a chain reduction ends on the root, summed from the far end") {
  for_all_sizes([](int ranks, std::uint64_t elems) {
    for (Rank root = 0; root < ranks; ++root) {
      for (const int chunks : {1, 3, 8}) {
        const auto plans = plans_of(ranks, [&](Rank r) {
          return allreduce::chain_reduce_plan(r, ranks, elems, root, chunks);
        });
        REQUIRE(check_contributions(plans, elems, everyone(ranks), [&](Rank r) {
                  return r == root ? Range{0, elems} : Range{};
                }) == "");
      }
    }
  });
  auto values = own_terms(4, 3);
  const auto plans =
      plans_of(4, [&](Rank r) { return allreduce::chain_reduce_plan(r, 4, 3, 2, 2); });
  REQUIRE(run_plans(plans, &values, combine_terms) == "");
  REQUIRE(values[2] == std::vector<std::string>(3, "(c(d(ab)))"));
}

TEST_CASE("the interpreter refuses plans that block each other or do not match") {
  std::vector<std::vector<Contributions>> values = own_contributions(2, 4);
  const Range all{0, 4};
  // Both send what they have not received yet.
  const auto crossed = plans_of(2, [&](Rank r) {
    return Plan{4, {{r, {}, 1 - r, all, Action::copy}, {1 - r, all, r, {}, Action::copy}}, all};
  });
  REQUIRE(run_plans(crossed, &values, combine_once).find("stuck") != std::string::npos);
  const auto uneven = plans_of(2, [&](Rank r) {
    return Plan{4, {{1 - r, {0, 2}, 1 - r, {2, r == 0 ? 3u : 4u}, Action::copy}}, all};
  });
  REQUIRE(run_plans(uneven, &values, combine_once).find("different") != std::string::npos);
}

}  // namespace
