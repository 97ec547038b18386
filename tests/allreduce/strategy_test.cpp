// SPDX-License-Identifier: Apache-2.0
// What is the ring's own; what all strategies promise stands in tests/contract.
#include "allreduce/strategy.h"

#include <latch>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "libdist/plan.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

Options over_the_transport() {
  Options options;
  options.algorithm = "ring";
  return options;
}

std::unique_ptr<Strategy> make_ring(World& world, Arena& arena, UpdateRule rule = Sgd{}) {
  return allreduce::make_strategy(world, arena, rule).value();
}

void run_step(Strategy& strategy, const Arena& arena) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) strategy.ready(p);
}

Status refusal(Options options) {
  Status why;
  test::run_ranks(
      "shm", 1,
      [&](World& world) {
        auto arena = Arena::create({{"a", Elems(1)}}).value();
        why = allreduce::make_strategy(world, arena, Sgd{}).status();
      },
      options);
  return why;
}

TEST_CASE("native is refused where there is no MPI, and by deterministic") {
  Options options;
  options.algorithm = "native";
  CHECK(refusal(options).code() == ErrorCode::unavailable);
  CHECK(refusal(options).message().find("this world uses shm") != std::string::npos);
  options.deterministic = true;
  CHECK(refusal(options).code() == ErrorCode::invalid_argument);
  options.algorithm = "rong";
  CHECK(refusal(options).message() ==
        "ring: algorithm 'rong' is unknown; valid: auto, sweep, hierarchical, ring, native");
}

TEST_CASE("a step's report: bytes as the plan says, times that fit together") {
  constexpr int kRanks = 3;
  Options options = over_the_transport();
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 1_KiB;
  options.segment_bytes = 100_B;
  test::run_ranks(
      "shm", kRanks,
      [&](World& world) {
        auto arena =
            Arena::create({{"a", Elems(16)}, {"b", Elems(240)}, {"c", Elems(480)}}).value();
        const auto ring = make_ring(world, arena);
        expect(ring->workers() == kRanks && ring->worker() == world.rank(), "who works");
        expect_ok(ring->begin());
        for (std::uint64_t step = 0; step < 3; ++step) {
          const auto begin = Clock::now();
          run_step(*ring, arena);
          const auto report = ring->finish_step().value();
          const auto took = Clock::now() - begin;
          // Buckets of 16, 240 and 480 elements; each rank sends all chunks but one, twice.
          std::uint64_t sent_elems = 0;
          for (const std::uint64_t elems : {16, 240, 480}) {
            const auto chunk = [&](int c) {
              return chunk_range({0, elems}, kRanks, (c + kRanks) % kRanks).elems();
            };
            sent_elems += elems - chunk(world.rank() + 1) + elems - chunk(world.rank() + 2);
          }
          expect(report.bytes_sent == Bytes(4 * sent_elems), "bytes_sent");
          expect(report.step == step, "step");
          expect(report.update + report.communication_exposed <= took, "times");
          expect(report.communication_busy > Duration(0), "busy");
          expect(report.communication_busy <= took, "busy is no longer than the step");
        }
        expect_ok(ring->end());
      },
      options);
  SUCCEED();
}

TEST_CASE("different layouts, rules and sizes are refused on every rank, which names the odd one") {
  for (int variant = 0; variant < 4; ++variant) {
    INFO("variant " << variant);
    std::mutex mutex;
    std::vector<std::string> stories;  // guarded by mutex
    auto group = test::make_group("shm", 3);
    std::vector<std::thread> threads;
    for (int r = 0; r < 3; ++r) {
      threads.emplace_back([&, r] {
        const bool odd = r == 2;
        Options options = over_the_transport();
        options.timeout = std::chrono::seconds(5);
        if (odd && variant == 0) options.bucket_bytes = 1_KiB;
        auto world = World::over(std::move(group[static_cast<std::size_t>(r)]), options);
        const Elems elems(odd && variant == 1 ? 11 : 10);
        auto arena =
            Arena::create({{odd && variant == 2 ? "b" : "a", elems}, {"z", Elems(5)}}).value();
        const auto ring =
            make_ring(world, arena, Sgd{.learning_rate = odd && variant == 3 ? 0.2 : 0.1});
        const auto story = ring->begin().message();
        const std::lock_guard lock(mutex);
        stories.push_back(story);
      });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& story : stories) {
      INFO(story);
      CHECK(story.starts_with("ring: the layouts differ: rank(s) 2 and rank 0"));
    }
  }
}

TEST_CASE("a lost neighbour is told by bucket, round and rank") {
  std::mutex mutex;
  std::string story;
  const auto body = [&](World& world) {
    auto arena = Arena::create({{"a", Elems(100)}}).value();
    const auto ring = make_ring(world, arena);
    expect_ok(ring->begin());
    if (world.rank() == 1) return;
    run_step(*ring, arena);
    const auto failed = ring->finish_step();
    const std::lock_guard lock(mutex);
    story = failed.status().message();
  };
  test::run_ranks("shm", 2, body, over_the_transport());
  INFO(story);
  CHECK(story.starts_with("ring: bucket 0 -> round 0 -> "));
  CHECK(story.find("rank 1") != std::string::npos);
}

TEST_CASE("a step given up half-way leaves the arena alone and tells the others") {
  std::latch given_up(1);
  std::string own;
  std::string others;
  const auto body = [&](World& world) {
    auto arena = std::optional(Arena::create({{"a", Elems(300000)}, {"b", Elems(10)}}).value());
    auto ring = make_ring(world, *arena);
    expect_ok(ring->begin());
    if (world.rank() == 0) {
      ring->ready(0);
      ring.reset();
      arena.reset();
      own = world.progress().failure().message();
      given_up.count_down();
    } else {
      given_up.wait();
      run_step(*ring, *arena);
      others = ring->finish_step().status().message();
    }
  };
  test::run_ranks("shm", 2, body, over_the_transport());
  CHECK(own == "ring: rank 0 gave up a step before finish_step()");
  INFO(others);
  CHECK(others.starts_with("ring: bucket 0 -> round 0 -> "));
  CHECK(others.find("rank 0") != std::string::npos);
}

}  // namespace
