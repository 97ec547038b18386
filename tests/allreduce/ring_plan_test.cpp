// SPDX-License-Identifier: Apache-2.0
// Plans checked without a network: every rank count 1..9, every length 0..40, on symbols whose
// order of summation can be read off.
#include "allreduce/ring_plan.h"

#include <numeric>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace {

using dist::Action;
using dist::Plan;
using dist::Range;
using dist::Rank;
using dist::allreduce::broadcast_plan;
using dist::allreduce::ring_all_reduce_plan;

constexpr int kMaxRanks = 9;
constexpr std::uint64_t kMaxElems = 40;

// Values of all ranks, and a round applied to all of them at once: everybody sends what they held
// before the round.
template <typename T, typename Add>
void run(const std::vector<Plan>& plans, std::vector<std::vector<T>>* values, const Add& add) {
  for (std::size_t k = 0; k < plans[0].rounds.size(); ++k) {
    const auto before = *values;
    for (std::size_t r = 0; r < plans.size(); ++r) {
      const auto& round = plans[r].rounds[k];
      for (auto i = round.receive.begin; i < round.receive.end; ++i) {
        const T& received = before[static_cast<std::size_t>(round.from)][i];
        T& own = (*values)[r][i];
        own = round.action == Action::reduce ? add(received, own) : received;
      }
    }
  }
}

std::vector<Plan> ring_plans(int ranks, std::uint64_t elems) {
  std::vector<Plan> plans;
  for (Rank r = 0; r < ranks; ++r) plans.push_back(ring_all_reduce_plan(r, ranks, elems));
  return plans;
}

std::vector<Plan> broadcast_plans(int ranks, std::uint64_t elems, int chunks) {
  std::vector<Plan> plans;
  for (Rank r = 0; r < ranks; ++r) plans.push_back(broadcast_plan(r, ranks, elems, chunks));
  return plans;
}

// What a rank sends in a round is what the rank it sends to receives in that round, from it.
bool sends_match_receives(const std::vector<Plan>& plans) {
  for (std::size_t r = 0; r < plans.size(); ++r) {
    if (plans[r].rounds.size() != plans[0].rounds.size()) return false;
    for (std::size_t k = 0; k < plans[r].rounds.size(); ++k) {
      const auto& mine = plans[r].rounds[k];
      if (!mine.send.empty()) {
        const auto& theirs = plans[static_cast<std::size_t>(mine.to)].rounds[k];
        if (theirs.from != static_cast<Rank>(r) || theirs.receive != mine.send) return false;
      }
      if (!mine.receive.empty()) {
        const auto& theirs = plans[static_cast<std::size_t>(mine.from)].rounds[k];
        if (theirs.to != static_cast<Rank>(r) || theirs.send != mine.receive) return false;
      }
    }
  }
  return true;
}

std::uint64_t sent_elems(const Plan& plan) {
  return std::accumulate(
      plan.rounds.begin(), plan.rounds.end(), std::uint64_t{0},
      [](std::uint64_t sum, const dist::Round& round) { return sum + round.send.elems(); });
}

// "((c+d)+a)+b" for the chunk that begins at rank c.
std::string promised_sum(int first, int ranks) {
  const auto symbol = [&](int r) { return std::string(1, static_cast<char>('a' + r % ranks)); };
  std::string sum = symbol(first);
  for (int i = 1; i < ranks; ++i) sum = "(" + sum + "+" + symbol(first + i) + ")";
  return sum;
}

TEST_CASE("every element ends as the sum on every rank, whatever the ranks and the length") {
  for (int ranks = 1; ranks <= kMaxRanks; ++ranks) {
    for (std::uint64_t elems = 0; elems <= kMaxElems; ++elems) {
      std::vector<std::vector<std::int64_t>> values;
      std::vector<std::int64_t> sums(elems, 0);
      for (int r = 0; r < ranks; ++r) {
        auto& mine = values.emplace_back();
        for (std::uint64_t i = 0; i < elems; ++i) {
          mine.push_back(static_cast<std::int64_t>(i * 1000) + (1 << r));
          sums[i] += mine.back();
        }
      }
      run(ring_plans(ranks, elems), &values, std::plus<>());
      INFO("ranks " << ranks << ", elems " << elems);
      REQUIRE(values == std::vector(static_cast<std::size_t>(ranks), sums));
    }
  }
}

TEST_CASE("chunk c is summed from rank c upward, on every rank") {
  for (int ranks = 1; ranks <= kMaxRanks; ++ranks) {
    for (const std::uint64_t elems : {0, 1, 2, 7, 8, 9, 40}) {
      std::vector<std::vector<std::string>> values;
      for (int r = 0; r < ranks; ++r) {
        values.emplace_back(elems, std::string(1, static_cast<char>('a' + r)));
      }
      run(ring_plans(ranks, elems), &values, [](const std::string& left, const std::string& right) {
        return "(" + left + "+" + right + ")";
      });
      for (int c = 0; c < ranks; ++c) {
        const Range chunk = dist::chunk_range({0, elems}, ranks, c);
        for (auto i = chunk.begin; i < chunk.end; ++i) {
          for (const auto& mine : values) {
            REQUIRE(mine[i] == promised_sum(dist::first_summand(c), ranks));
          }
        }
      }
    }
  }
}

TEST_CASE("sends match the neighbour's receives round by round") {
  for (int ranks = 1; ranks <= kMaxRanks; ++ranks) {
    for (std::uint64_t elems = 0; elems <= kMaxElems; ++elems) {
      INFO("ranks " << ranks << ", elems " << elems);
      REQUIRE(sends_match_receives(ring_plans(ranks, elems)));
      for (const int chunks : {1, 2, 5, 64}) {
        REQUIRE(sends_match_receives(broadcast_plans(ranks, elems, chunks)));
      }
    }
  }
}

TEST_CASE("a rank sends 2 (N - 1) / N of the elements in 2 (N - 1) rounds") {
  for (int ranks = 1; ranks <= kMaxRanks; ++ranks) {
    const auto n = static_cast<std::uint64_t>(ranks);
    const auto elems = 12 * n;
    for (const Plan& plan : ring_plans(ranks, elems)) {
      REQUIRE(plan.elems == elems);
      REQUIRE(plan.rounds.size() == 2 * (n - 1));
      REQUIRE(sent_elems(plan) == 2 * (n - 1) * elems / n);
    }
  }
  // Lengths that do not divide: the total over the ranks is exact all the same.
  std::uint64_t total = 0;
  for (const Plan& plan : ring_plans(5, 13)) total += sent_elems(plan);
  REQUIRE(total == 2 * 4 * 13);
}

TEST_CASE("a broadcast gives everybody rank 0's elements and passes each on once") {
  for (int ranks = 1; ranks <= kMaxRanks; ++ranks) {
    for (std::uint64_t elems = 0; elems <= kMaxElems; ++elems) {
      for (const int chunks : {1, 3, 8}) {
        std::vector<std::vector<int>> values;
        for (int r = 0; r < ranks; ++r) values.emplace_back(elems, r);
        const auto plans = broadcast_plans(ranks, elems, chunks);
        run(plans, &values, std::plus<>());
        INFO("ranks " << ranks << ", elems " << elems << ", chunks " << chunks);
        REQUIRE(values == std::vector(static_cast<std::size_t>(ranks), std::vector<int>(elems, 0)));
        for (int r = 0; r < ranks; ++r) {
          REQUIRE(sent_elems(plans[static_cast<std::size_t>(r)]) == (r + 1 < ranks ? elems : 0));
        }
      }
    }
  }
}

}  // namespace
