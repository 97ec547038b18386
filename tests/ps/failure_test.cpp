// SPDX-License-Identifier: Apache-2.0
// Ranks that die, leave or stop: the others end soon, with a message that names them.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <thread>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/processes.h"
#include "tests/support/ranks.h"
#include "tests/support/scratch.h"

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

constexpr Duration kToldWithin = test::kSlower * std::chrono::seconds(1);
constexpr Duration kEndedWithin = test::kSlower * std::chrono::seconds(5);

// What the processes of a test know of each other.
struct Shared {
  std::atomic<Duration::rep> killed_at;  // by the host's clock
  std::atomic<int> server_pid;
  std::atomic<int> waiting;

  void note_kill() { killed_at = Clock::now().time_since_epoch().count(); }
  Duration since_kill() const { return Clock::now().time_since_epoch() - Duration(killed_at); }
  void expect_told_within(Duration limit) const {
    const auto told = since_kill();
    expect(told < limit, "told after {:.2f} s", std::chrono::duration<double>(told).count());
  }
};

class SharedMemory {
 public:
  SharedMemory() : memory_(Mapping::map_shareable(Bytes(sizeof(Shared))).value()) {}
  Shared& operator*() { return *reinterpret_cast<Shared*>(memory_.bytes().data()); }

 private:
  Mapping memory_;
};

// Three ranks as processes; what each ended with.
std::vector<int> run_three(const std::string& transport, std::uint64_t number,
                           const std::function<void(Options)>& body) {
  const test::ScratchFolder folder;
  return test::run_processes(3, [&](Rank rank) {
    Options options;
    options.transport = transport;
    options.rank = rank;
    options.ranks = 3;
    options.job = 0x70730000u + static_cast<std::uint64_t>(::getppid()) * 64 + number;
    options.rendezvous = "dir:" + folder.path();
    options.timeout = std::chrono::seconds(60);
    body(std::move(options));
  });
}

// One rank kills itself within its step; all others must hear of it and say so.
void train_until_killed(const Case& chosen, Options options, Shared& shared) {
  options.placement = chosen.placement;
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
    shared.note_kill();
    test::kill_this_process();
  }
  const auto outcome =
      strategy->worker() >= 0 ? train(*strategy, arena, 1'000'000) : strategy->end();
  expect(outcome.code() == ErrorCode::peer_lost, "not a lost peer: {}", outcome.message());
  expect(outcome.message().find(fmt::format("rank {}", chosen.killed)) != std::string::npos,
         "the lost rank is not named: {}", outcome.message());
  expect(outcome.message().find(chosen.strategy) == 0, "nor the strategy: {}", outcome.message());
  expect(
      strategy->worker() < 0 || outcome.message().find(" versions are lost, ") != std::string::npos,
      "nor what is lost: {}", outcome.message());
  const bool server = chosen.placement == Placement::dedicated && chosen.killed == 2;
  shared.expect_told_within(server ? kEndedWithin : kToldWithin);
}

TEST_CASE("a killed rank ends the job of the others, who name it") {
  const std::vector<Case> cases = {
      {"sync-ps", Placement::colocated, 1},  {"sync-ps", Placement::dedicated, 1},
      {"sync-ps", Placement::dedicated, 2},  {"async-ps", Placement::colocated, 1},
      {"async-ps", Placement::dedicated, 0}, {"async-ps", Placement::dedicated, 2},
  };
  for (const auto* transport : {"shm", "tcp"}) {
    for (std::size_t i = 0; i < cases.size(); ++i) {
      SharedMemory shared;
      const auto codes = run_three(transport, i, [&](Options options) {
        train_until_killed(cases[i], std::move(options), *shared);
      });
      REQUIRE((*shared).since_kill() < kEndedWithin);
      for (Rank rank = 0; rank < 3; ++rank) {
        INFO(transport << ", case " << i << ", rank " << rank);
        REQUIRE(codes[static_cast<std::size_t>(rank)] == (rank == cases[i].killed ? -9 : 0));
      }
    }
  }
}

// Its last complete checkpoint is that of step 3 when its server is killed after step 5.
void train_with_checkpoint(const std::string& directory, Options options, Shared& shared) {
  options.placement = Placement::dedicated;
  auto world = World::open(std::move(options)).value();
  auto arena = small_arena();
  const auto all = make_group(world).value();
  auto checkpoints = Checkpoints::open(*all, arena, "sgd", {.directory = directory}).value();
  auto strategy = make_strategy("sync-ps", world, arena, Sgd{}).value();
  checkpoints->attach(*strategy);
  expect_ok(strategy->begin());
  if (strategy->worker() < 0) {
    shared.server_pid = ::getpid();
    expect(strategy->end().ok(), "only kill -9 ends it");
    return;
  }
  expect_ok(train(*strategy, arena, 3));
  expect_ok(checkpoints->save(*strategy));
  if (world.rank() == 0) expect_ok(checkpoints->wait());
  expect_ok(train(*strategy, arena, 2));
  ++shared.waiting;
  if (world.rank() == 0) {
    while (shared.waiting < 2) std::this_thread::yield();
    shared.note_kill();
    expect(::kill(shared.server_pid, SIGKILL) == 0, "kill");
    ++shared.waiting;
  }
  while (shared.waiting < 3) std::this_thread::yield();
  const auto outcome = train(*strategy, arena, 1);
  expect(outcome.message().find("; 2 versions are lost, the last complete checkpoint is that of "
                                "step 3") != std::string::npos,
         "not what is lost: {}", outcome.message());
  expect(outcome.message().find("server 0 (rank 2)") != std::string::npos, "{}", outcome.message());
  shared.expect_told_within(kEndedWithin);
}

TEST_CASE("who loses a server counts the versions since the last complete checkpoint") {
  for (const auto* transport : {"shm", "tcp"}) {
    INFO(transport);
    const test::ScratchFolder folder;
    SharedMemory shared;
    const auto codes = run_three(transport, 32, [&](Options options) {
      train_with_checkpoint(folder.path("checkpoints"), std::move(options), *shared);
    });
    REQUIRE(codes == std::vector<int>{0, 0, -9});
    REQUIRE((*shared).since_kill() < kEndedWithin);
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
          expect(outcome.code() == ErrorCode::timed_out, "{}", outcome.message());
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
