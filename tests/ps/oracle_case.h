// SPDX-License-Identifier: Apache-2.0
// One run of the oracle on ranks that live to its end: every push is applied once, staleness stays
// within its bound, and what a worker sees never goes back. For ranks as threads and as processes.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>

#include "tests/ps/oracle.h"

namespace dist::test {

struct OraclePolicy {
  std::string name;
  std::string strategy;
  std::uint64_t staleness = kUnlimitedStaleness;
  int backup_workers = 0;

  bool together() const { return strategy == "sync-ps" || staleness == 0; }
};

inline const std::vector<OraclePolicy> kOraclePolicies = {
    {"sync", "sync-ps"},          {"backup", "sync-ps", kUnlimitedStaleness, 1},
    {"bounded:0", "async-ps", 0}, {"bounded:1", "async-ps", 1},
    {"bounded:4", "async-ps", 4}, {"bounded:16", "async-ps", 16},
    {"async", "async-ps"},
};
inline constexpr int kMostOracleServers = 4;

struct OracleCase {
  OraclePolicy policy;
  Placement placement = Placement::colocated;
  bool in_place = true;  ///< where one host allows it; else by messages
  int workers = 1;
  int servers = 1;
  unsigned seed = 0;  ///< of how often each worker pushes

  int ranks() const { return workers + (placement == Placement::dedicated ? servers : 0); }

  /// Whether there are so many of each.
  bool possible() const {
    return workers >= 1 && workers <= static_cast<int>(kOracleWorkers) && servers >= 1 &&
           (placement == Placement::dedicated || servers <= workers) &&
           policy.backup_workers < workers;
  }

  std::string describe() const {
    return fmt::format("{}, {} workers, {} {} servers{}, seed {}", policy.name, workers,
                       placement == Placement::dedicated ? "dedicated" : "colocated", servers,
                       in_place ? "" : ", by messages", seed);
  }

  Options options() const {
    Options options = oracle_options();
    options.staleness = policy.staleness;
    options.backup_workers = policy.backup_workers;
    options.placement = placement;
    options.share_parameters = in_place;
    options.servers = servers;
    return options;
  }
};

/// One rank's part of it. Throws where something is wrong.
class OracleRun {
 public:
  OracleRun(const OracleCase& chosen, World& world)
      : chosen_(chosen),
        world_(world),
        arena_(oracle_arena()),
        strategy_(make_strategy(chosen.policy.strategy, world, arena_, oracle_rule()).value()) {}

  void run() {
    expect_ok(strategy_->begin());
    if (strategy_->worker() >= 0) train();
    expect_ok(strategy_->end());
    account();
  }

 private:
  // The sum over the contributors of one update: each of 1 .. 8 of them has a whole share of it.
  static constexpr float kWhole = 840;

  bool backup() const { return chosen_.policy.backup_workers != 0; }

  // Together all contribute to all steps; else each as often as it likes.
  int steps_of(int worker) const {
    if (chosen_.policy.together()) return 6;
    return 3 + static_cast<int>((chosen_.seed + static_cast<unsigned>(worker) * 7) % 9);
  }

  void train() {
    const bool together = chosen_.policy.together();
    const float amount = backup() ? kWhole : together ? static_cast<float>(chosen_.workers) : 1.0f;
    OracleCounts before{};
    for (int step = 0; step < steps_of(strategy_->worker()); ++step) {
      contribute(*strategy_, arena_, amount);
      const auto report = strategy_->finish_step().value();
      ++pushed_;
      const auto counts = read_counts(arena_);
      expect(never_less(before, counts), "a version went back");
      before = counts;
      if (backup()) {
        check_whole(counts);
      } else {
        check_step(counts, step + 1, report.staleness);
      }
    }
    expect_ok(strategy_->join());
    const auto counts = read_counts(arena_);
    expect(never_less(before, counts), "a version went back at the end");
    if (backup()) return check_whole(counts);
    for (std::size_t p = 0; p < kOracleParameters; ++p) {
      for (int worker = 0; worker < chosen_.workers; ++worker) {
        expect_count(counts, p, worker, steps_of(worker), steps_of(worker));
      }
    }
  }

  // The worker's own steps are all there, and so are the others' but for the bound.
  void check_step(const OracleCounts& counts, int done, std::uint64_t staleness) const {
    const auto bound = chosen_.policy.staleness;
    const bool together = chosen_.policy.together();
    const bool bounded = together || bound != kUnlimitedStaleness;
    const int slack = together ? 0 : bounded ? static_cast<int>(bound) : done;
    for (std::size_t p = 0; p < kOracleParameters; ++p) {
      for (int worker = 0; worker < chosen_.workers; ++worker) {
        const bool own = worker == strategy_->worker();
        const int least = std::min(own ? done : done - slack, steps_of(worker));
        const int most = own || together ? done : steps_of(worker);
        expect_count(counts, p, worker, least, most);
      }
    }
    if (!bounded || together) return;
    expect(staleness <= staleness_limit(chosen_.workers, bound), "staleness {}", staleness);
  }

  static void expect_count(const OracleCounts& counts, std::size_t parameter, int worker, int least,
                           int most) {
    const float count = counts[parameter][static_cast<std::size_t>(worker)];
    expect(count >= static_cast<float>(least) && count <= static_cast<float>(most),
           "parameter {}: {} of worker {} applied, not {} to {}", parameter, count, worker, least,
           most);
  }

  // Contributions may be dropped, but no update holds a part of its mean only, or one twice.
  static void check_whole(const OracleCounts& counts) {
    for (std::size_t p = 0; p < kOracleParameters; ++p) {
      float sum = 0;
      for (const float count : counts[p]) sum += count;
      const float updates = std::round(sum / kWhole);
      expect(std::abs(sum - updates * kWhole) < 1, "parameter {}: {} updates", p, sum / kWhole);
    }
  }

  // What servers count is what workers pushed: so many times every piece.
  void account() {
    const auto report = strategy_->server_report();
    std::vector<std::uint64_t> sums = {pushed_, report.applied, report.dropped, report.doubled};
    expect_ok(make_group(world_).value()->all_reduce(sums));
    // Small parameters are a piece each; every server has its part of the large one.
    const auto pieces = kOracleParameters - 1 + static_cast<std::size_t>(chosen_.servers);
    expect(sums[1] + sums[2] == sums[0] * pieces, "{} pushes of {} pieces: {} applied, {} dropped",
           sums[0], pieces, sums[1], sums[2]);
    expect(backup() || sums[2] == 0, "dropped");
    expect(sums[3] == 0, "doubled");
  }

  const OracleCase chosen_;
  World& world_;
  Arena arena_;
  const std::unique_ptr<Strategy> strategy_;
  std::uint64_t pushed_ = 0;
};

/// Every case with so many ranks.
inline std::vector<OracleCase> oracle_cases(int ranks) {
  std::vector<OracleCase> cases;
  for (const auto& policy : kOraclePolicies) {
    for (const Placement placement : {Placement::colocated, Placement::dedicated}) {
      for (int servers = 1; servers <= kMostOracleServers; ++servers) {
        OracleCase made{policy, placement, true,
                        ranks,  servers,   static_cast<unsigned>(cases.size())};
        if (placement == Placement::dedicated) made.workers -= servers;
        if (made.possible()) cases.push_back(made);
      }
    }
  }
  return cases;
}

/// So many of them, chosen by the seed.
inline std::vector<OracleCase> some_oracle_cases(int ranks, std::size_t count, unsigned seed) {
  auto cases = oracle_cases(ranks);
  std::shuffle(cases.begin(), cases.end(), std::mt19937(seed));
  cases.resize(std::min(count, cases.size()));
  return cases;
}

}  // namespace dist::test
