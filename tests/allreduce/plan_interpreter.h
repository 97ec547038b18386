// SPDX-License-Identifier: Apache-2.0
// Runs the plans of all ranks against each other without a network and under the meanest rules an
// executor may have: no buffering (a message moves only when its sender and its receiver are both
// ready), one send and one receive a rank at a time, in plan order.
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "libdist/plan.h"

namespace dist::test {

/// A plan of each rank, made by `make(rank)`.
template <typename Make>
std::vector<Plan> plans_of(int ranks, const Make& make) {
  std::vector<Plan> plans;
  for (Rank rank = 0; rank < ranks; ++rank) plans.push_back(make(rank));
  return plans;
}

inline std::uint64_t sent_elems(const Plan& plan) {
  return std::accumulate(
      plan.rounds.begin(), plan.rounds.end(), std::uint64_t{0},
      [](std::uint64_t sum, const Round& round) { return sum + round.send.elems(); });
}

template <typename T, typename Combine>
class PlanInterpreter {
 public:
  /// `values` are the elements of every rank, `combine(left, right)` what a reduction does.
  PlanInterpreter(const std::vector<Plan>& plans, std::vector<std::vector<T>>* values,
                  Combine combine)
      : plans_(plans), values_(*values), combine_(std::move(combine)), ranks_(plans.size()) {
    for (std::size_t r = 0; r < plans_.size(); ++r) {
      skip_empty(r, &Round::send, &ranks_[r].send);
      skip_empty(r, &Round::receive, &ranks_[r].receive);
    }
  }

  /// Empty when all plans ran to their ends; else what went wrong.
  std::string run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t r = 0; r < plans_.size() && wrong_.empty(); ++r) {
        moved |= transfer_from(r) || store(r);
      }
    }
    for (std::size_t r = 0; r < plans_.size() && wrong_.empty(); ++r) {
      const auto end = plans_[r].rounds.size();
      if (ranks_[r].send != end || ranks_[r].receive != end) {
        wrong_ = "rank " + std::to_string(r) + " is stuck sending in round " +
                 std::to_string(ranks_[r].send) + ", receiving in round " +
                 std::to_string(ranks_[r].receive);
      }
    }
    return wrong_;
  }

 private:
  struct State {
    std::size_t send = 0;     // the round of the next message out
    std::size_t receive = 0;  // and in
    std::vector<T> landed;    // came in, not yet stored
    bool holds = false;
  };

  const Round& round(std::size_t rank, std::size_t number) const {
    return plans_[rank].rounds[number];
  }

  void skip_empty(std::size_t rank, Range Round::*side, std::size_t* number) const {
    while (*number < plans_[rank].rounds.size() && (round(rank, *number).*side).empty()) ++*number;
  }

  static bool meet(Range a, Range b) { return !intersect(a, b).empty(); }

  // Nothing that rounds before `end` were to receive into `range` is missing.
  bool received_before(std::size_t rank, std::size_t end, Range range) const {
    for (std::size_t k = ranks_[rank].receive; k < end; ++k) {
      if (meet(round(rank, k).receive, range)) return false;
    }
    return true;
  }

  // No round up to `last` still has to send what `range` holds.
  bool sent_through(std::size_t rank, std::size_t last, Range range) const {
    for (std::size_t k = ranks_[rank].send; k <= last; ++k) {
      if (meet(round(rank, k).send, range)) return false;
    }
    return true;
  }

  bool may_store(std::size_t rank) const {
    const std::size_t k = ranks_[rank].receive;
    return sent_through(rank, k, round(rank, k).receive);
  }

  bool transfer_from(std::size_t rank) {
    State& sender = ranks_[rank];
    if (sender.send == plans_[rank].rounds.size()) return false;
    const Round& out = round(rank, sender.send);
    if (!received_before(rank, sender.send, out.send)) return false;
    if (out.to < 0 || out.to >= static_cast<Rank>(ranks_.size()) ||
        out.to == static_cast<Rank>(rank)) {
      wrong_ = "rank " + std::to_string(rank) + " sends to rank " + std::to_string(out.to);
      return false;
    }
    const auto to = static_cast<std::size_t>(out.to);
    State& receiver = ranks_[to];
    if (receiver.holds || receiver.receive == plans_[to].rounds.size()) return false;
    const Round& in = round(to, receiver.receive);
    if (in.from != static_cast<Rank>(rank)) return false;
    if (in.action == Action::copy && !may_store(to)) return false;
    if (in.receive.elems() != out.send.elems() || in.receive != out.send) {
      wrong_ = "ranks " + std::to_string(rank) + " and " + std::to_string(to) +
               " mean different elements";
      return false;
    }
    const auto first = values_[rank].begin() + static_cast<std::ptrdiff_t>(out.send.begin);
    receiver.landed.assign(first, first + static_cast<std::ptrdiff_t>(out.send.elems()));
    receiver.holds = true;
    ++sender.send;
    skip_empty(rank, &Round::send, &sender.send);
    return true;
  }

  bool store(std::size_t rank) {
    State& state = ranks_[rank];
    if (!state.holds || !may_store(rank)) return false;
    const Round& in = round(rank, state.receive);
    for (std::uint64_t i = 0; i < in.receive.elems(); ++i) {
      T& own = values_[rank][in.receive.begin + i];
      const T& theirs = state.landed[i];
      if (in.action == Action::copy) {
        own = theirs;
      } else {
        own = in.action == Action::reduce ? combine_(own, theirs) : combine_(theirs, own);
      }
    }
    state.holds = false;
    ++state.receive;
    skip_empty(rank, &Round::receive, &state.receive);
    return true;
  }

  const std::vector<Plan>& plans_;
  std::vector<std::vector<T>>& values_;
  Combine combine_;
  std::vector<State> ranks_;
  std::string wrong_;
};

template <typename T, typename Combine>
std::string run_plans(const std::vector<Plan>& plans, std::vector<std::vector<T>>* values,
                      Combine combine) {
  return PlanInterpreter<T, Combine>(plans, values, std::move(combine)).run();
}

/// Whose contributions an element holds, each at most once: a bit a rank; kTwice is for ever.
using Contributions = std::uint32_t;
inline constexpr Contributions kTwice = 1u << 31;
inline Contributions combine_once(Contributions left, Contributions right) {
  return (left & right) != 0 ? kTwice : left | right;
}

inline std::vector<std::vector<Contributions>> own_contributions(int ranks, std::uint64_t elems) {
  std::vector<std::vector<Contributions>> values;
  for (int rank = 0; rank < ranks; ++rank) values.emplace_back(elems, 1u << rank);
  return values;
}

/// Empty when, at the end, `result` of every rank holds `expected` and lies where `range` says.
inline std::string check_contributions(const std::vector<Plan>& plans, std::uint64_t elems,
                                       Contributions expected,
                                       const std::function<Range(Rank)>& range) {
  auto values = own_contributions(static_cast<int>(plans.size()), elems);
  const auto wrong = run_plans(plans, &values, combine_once);
  if (!wrong.empty()) return wrong;
  for (std::size_t r = 0; r < plans.size(); ++r) {
    if (plans[r].elems != elems) return "Plan::elems";
    if (plans[r].result != range(static_cast<Rank>(r))) return "Plan::result";
    for (auto i = plans[r].result.begin; i < plans[r].result.end; ++i) {
      if (values[r][i] != expected) {
        return "element " + std::to_string(i) + " of rank " + std::to_string(r) + " holds " +
               std::to_string(values[r][i]);
      }
    }
  }
  return {};
}

/// All ranks' contributions.
inline Contributions everyone(int ranks) { return (1u << ranks) - 1; }

/// Elements as terms whose order can be read off: "a" is rank 0's.
inline std::vector<std::vector<std::string>> own_terms(int ranks, std::uint64_t elems) {
  std::vector<std::vector<std::string>> values;
  for (int rank = 0; rank < ranks; ++rank) {
    values.emplace_back(elems, std::string(1, static_cast<char>('a' + rank)));
  }
  return values;
}
inline std::string combine_terms(const std::string& left, const std::string& right) {
  return "(" + left + right + ")";
}

/// The rank counts and lengths every plan is checked at.
inline constexpr int kMaxPlanRanks = 9;
inline constexpr std::uint64_t kMaxPlanElems = 40;

}  // namespace dist::test
