// SPDX-License-Identifier: Apache-2.0
// Every push is applied exactly once: for every policy, number of workers and of servers, over shm
// and tcp, and (in membership_test.cpp) while workers die and come back.
#include <array>
#include <mutex>
#include <random>

#include "tests/ps/oracle.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::test;

struct Case {
  std::string transport;
  std::string strategy;
  std::uint64_t staleness = 0;
  Placement placement = Placement::colocated;
  int workers = 1;
  int servers = 1;
};

Case choose(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  };
  Case chosen;
  chosen.transport = pick(0, 1) == 0 ? "shm" : "tcp";
  chosen.strategy = pick(0, 3) == 0 ? "sync-ps" : "async-ps";
  chosen.staleness =
      std::array{kUnlimitedStaleness, std::uint64_t{1}, std::uint64_t{4}}[random() % 3];
  chosen.placement = pick(0, 1) == 0 ? Placement::colocated : Placement::dedicated;
  chosen.workers = pick(1, 8);
  const bool colocated = chosen.placement == Placement::colocated;
  chosen.servers = pick(1, colocated ? std::min(4, chosen.workers) : 4);
  return chosen;
}

void run(const Case& chosen, unsigned seed) {
  Options options = oracle_options();
  options.staleness = chosen.staleness;
  options.placement = chosen.placement;
  options.servers = chosen.servers;
  const bool sync = chosen.strategy == "sync-ps";
  const int ranks =
      chosen.workers + (chosen.placement == Placement::dedicated ? chosen.servers : 0);
  run_ranks(
      chosen.transport, ranks,
      [&](World& world) {
        auto arena = oracle_arena();
        const auto strategy = make_strategy(chosen.strategy, world, arena, oracle_rule()).value();
        expect_ok(strategy->begin());
        if (strategy->worker() >= 0) {
          // Together all contribute to all steps; else each as often as it likes.
          const auto steps_of = [&](int worker) {
            return sync ? 6 : 3 + static_cast<int>((seed + static_cast<unsigned>(worker) * 7) % 9);
          };
          const auto amount = static_cast<float>(sync ? chosen.workers : 1);
          for (int step = 0; step < steps_of(strategy->worker()); ++step) {
            contribute(*strategy, arena, amount);
            const auto report = strategy->finish_step().value();
            expect(sync || chosen.staleness == kUnlimitedStaleness ||
                       report.staleness <= staleness_limit(chosen.workers, chosen.staleness),
                   fmt::format("staleness {}", report.staleness));
          }
          expect_ok(strategy->join());
          const auto counts = read_counts(arena);
          for (std::size_t p = 0; p < kOracleParameters; ++p) {
            for (int worker = 0; worker < chosen.workers; ++worker) {
              const float count = counts[p][static_cast<std::size_t>(worker)];
              expect(count == static_cast<float>(steps_of(worker)),
                     fmt::format("parameter {}: worker {} pushed {} times, {} were applied", p,
                                 worker, steps_of(worker), count));
            }
          }
        }
        expect_ok(strategy->end());
      },
      options);
}

TEST_CASE("every push is applied once, whatever the policy, transport and placement") {
  for (unsigned seed = 1; seed <= 24; ++seed) {
    const Case chosen = choose(seed);
    INFO(fmt::format("seed {}: {} {} staleness {}, {} workers, {} {} servers", seed,
                     chosen.transport, chosen.strategy, chosen.staleness, chosen.workers,
                     chosen.servers,
                     chosen.placement == Placement::dedicated ? "dedicated" : "colocated"));
    REQUIRE_NOTHROW(run(chosen, seed));
  }
}

}  // namespace
