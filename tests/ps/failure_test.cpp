// SPDX-License-Identifier: Apache-2.0
// Ranks that die, leave or stop: the others end soon, with a message that names them.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/processes.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

constexpr std::uint64_t kLastStep = 3;

Arena small_arena() {
  return Arena::create({{"a", Elems(10)}, {"b", Elems(50'000)}, {"c", Elems(3)}}).value();
}

Status train(Strategy& strategy, const Arena& arena, std::uint64_t steps) {
  for (std::uint64_t i = 0; i < steps; ++i) {
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) strategy.ready(p);
    DIST_TRY(strategy.finish_step());
  }
  return {};
}

struct Case {
  std::string strategy;
  Placement placement;
  Rank killed;
};

// One rank kills itself within its step; all others must hear of it and say so.
void train_until_killed(const Case& chosen, Options options) {
  options.placement = chosen.placement;
  options.timeout = std::chrono::seconds(60);
  auto world = World::open(std::move(options)).value();
  auto arena = small_arena();
  auto strategy = make_strategy(chosen.strategy, world, arena, Sgd{}).value();
  expect_ok(strategy->begin());
  if (world.rank() == chosen.killed) {
    if (strategy->worker() >= 0) {
      expect_ok(train(*strategy, arena, kLastStep));
      strategy->ready(0);
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
    test::kill_this_process();
  }
  const auto began = Clock::now();
  const auto outcome =
      strategy->worker() >= 0 ? train(*strategy, arena, 1'000'000) : strategy->end();
  expect(outcome.code() == ErrorCode::peer_lost, "not a lost peer: " + outcome.message());
  expect(outcome.message().find(fmt::format("rank {}", chosen.killed)) != std::string::npos,
         "the lost rank is not named: " + outcome.message());
  expect(outcome.message().find(chosen.strategy) == 0, "nor the strategy: " + outcome.message());
  // Far less than the timeout: noticed, not waited for.
  expect(Clock::now() - began < std::chrono::seconds(30), "it took too long");
}

TEST_CASE("a killed rank ends the job of the others, who name it") {
  const std::vector<Case> cases = {
      {"sync-ps", Placement::colocated, 1},  {"sync-ps", Placement::dedicated, 1},
      {"sync-ps", Placement::dedicated, 2},  {"async-ps", Placement::colocated, 1},
      {"async-ps", Placement::dedicated, 0}, {"async-ps", Placement::dedicated, 2},
  };
  for (const auto* transport : {"shm", "tcp"}) {
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto name = fmt::format("dist-ps-killed-{}", ::getpid());
      const auto directory = std::filesystem::temp_directory_path() / name;
      std::filesystem::create_directory(directory);
      std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
      const auto codes = test::run_processes(3, [&](Rank rank) {
        Options options;
        options.transport = transport;
        options.rank = rank;
        options.ranks = 3;
        options.job = 0x70730000u + static_cast<std::uint64_t>(::getppid()) * 64 + i;
        options.rendezvous = "dir:" + directory.string();
        train_until_killed(cases[i], std::move(options));
      });
      std::filesystem::remove_all(directory);
      for (Rank rank = 0; rank < 3; ++rank) {
        INFO(transport << ", case " << i << ", rank " << rank);
        REQUIRE(codes[static_cast<std::size_t>(rank)] == (rank == cases[i].killed ? -9 : 0));
      }
    }
  }
}

TEST_CASE("a worker that stands still is named after the timeout, by all") {
  for (const auto placement : {Placement::colocated, Placement::dedicated}) {
    Options options;
    options.placement = placement;
    options.timeout = std::chrono::milliseconds(500);
    std::atomic<int> ended{0};
    std::atomic<int> named{0};
    const int waiting = placement == Placement::colocated ? 2 : 3;
    REQUIRE_NOTHROW(test::run_ranks(
        "tcp", waiting + 1,
        [&](World& world) {
          auto arena = small_arena();
          auto strategy = make_strategy("sync-ps", world, arena, Sgd{}).value();
          expect_ok(strategy->begin());
          if (world.rank() == 1) {
            expect_ok(train(*strategy, arena, 2));
            while (ended < waiting) std::this_thread::sleep_for(std::chrono::milliseconds(5));
            return;
          }
          const auto outcome =
              strategy->worker() < 0 ? strategy->end() : train(*strategy, arena, 100);
          ++ended;
          expect(outcome.code() == ErrorCode::timed_out, outcome.message());
          named += outcome.message().find("worker 1 (rank 1)") != std::string::npos ? 1 : 0;
        },
        options));
    REQUIRE(named == waiting);
  }
}

TEST_CASE("a strategy may be destroyed half-way, with its arena, while its world lives on") {
  for (const auto* transport : {"shm", "tcp"}) {
    std::atomic<int> destroyed{0};
    REQUIRE_NOTHROW(test::run_ranks(transport, 3, [&](World& world) {
      {
        auto arena = std::make_unique<Arena>(
            Arena::create({{"a", Elems(3'000'000)}, {"b", Elems(10)}}).value());
        auto strategy = make_strategy("sync-ps", world, *arena, Momentum{}).value();
        const auto begun = strategy->begin();
        if (begun.ok() && world.rank() != 2) {
          strategy->ready(0);
          strategy->ready(1);
        }
        strategy.reset();
        arena.reset();
      }
      ++destroyed;
      while (destroyed < 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      expect(!world.progress().failure().ok(), "what was in flight was not cancelled");
    }));
  }
}

}  // namespace
