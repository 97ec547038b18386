// SPDX-License-Identifier: Apache-2.0
// Hosts are pretended: so many successive ranks each.
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "allreduce/strategy.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

Options with(const std::string& algorithm, int ranks_per_host) {
  Options options;
  options.algorithm = algorithm;
  options.ranks_per_host = ranks_per_host;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 20_KiB;
  options.segment_bytes = 1000_B;
  return options;
}

// Whole numbers: every order of the sum gives the same.
void train(World& world, std::string_view algorithm) {
  auto arena = Arena::create({{"a", Elems(3)}, {"b", Elems(7001)}, {"c", Elems(1)}}).value();
  arena.parameter_span<float>(1)[5] = static_cast<float>(100 * (world.rank() + 1));
  const auto ring = allreduce::make_strategy(world, arena, Sgd{.learning_rate = 1}).value();
  expect_ok(ring->begin());
  const auto ranks = static_cast<float>(world.ranks());
  float expected = 0;
  for (int step = 1; step <= 5; ++step) {
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      for (float& g : arena.gradient_span<float>(p)) {
        g = ranks * static_cast<float>(step * (world.rank() + 1));
      }
      ring->ready(p);
    }
    const auto report = ring->finish_step().value();
    expect(report.algorithm == algorithm, "{}", report.algorithm);
    expected -= static_cast<float>(step) * ranks * (ranks + 1) / 2;
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      const auto values = arena.parameter_span<float>(p);
      for (std::size_t i = 0; i < values.size(); ++i) {
        expect(values[i] == expected + (p == 1 && i == 5 ? 100.0f : 0.0f), "a parameter");
      }
    }
  }
  expect_ok(ring->end());
  arena.parameter_span<float>(0)[0] = static_cast<float>(world.rank());
  expect(arena.parameter_span<float>(0)[0] == static_cast<float>(world.rank()), "its own again");
}

TEST_CASE("ranks of several hosts train as one") {
  for (const std::string transport : {"shm", "tcp"}) {
    for (const auto& [ranks, per_host] :
         std::vector<std::pair<int, int>>{{4, 2}, {6, 2}, {6, 3}, {8, 2}, {8, 4}}) {
      INFO(transport << " " << ranks << " ranks, " << per_host << " a host");
      REQUIRE_NOTHROW(test::run_ranks(
          transport, ranks, [](World& world) { train(world, "hierarchical"); },
          with("auto", per_host)));
    }
  }
}

TEST_CASE("where hosts do not fit, auto takes the ring, and hierarchical says why not") {
  for (const auto& [ranks, per_host] : std::vector<std::pair<int, int>>{{5, 2}, {3, 1}}) {
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", ranks, [](World& world) { train(world, "ring"); }, with("auto", per_host)));
    std::atomic<int> refused = 0;
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", ranks,
        [&](World& world) {
          auto arena = Arena::create({{"a", Elems(10)}}).value();
          const auto ring = allreduce::make_strategy(world, arena, Sgd{}).value();
          const auto why = ring->begin();
          expect(why.message().find("hierarchical needs several") != std::string::npos, "{}",
                 why.message());
          ++refused;
        },
        with("hierarchical", per_host)));
    CHECK(refused == ranks);
  }
  auto deterministic = with("auto", 2);
  deterministic.deterministic = true;
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 4, [](World& world) { train(world, "ring"); }, deterministic));
}

TEST_CASE("a rank that leaves ends the step of all others, who name a rank") {
  for (const Rank leaver : {0, 3}) {
    std::atomic<int> failed = 0;
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 4,
        [&](World& world) {
          auto arena = Arena::create({{"a", Elems(5000)}, {"b", Elems(5000)}}).value();
          auto ring = allreduce::make_strategy(world, arena, Sgd{}).value();
          expect_ok(ring->begin());
          if (world.rank() == leaver) return;
          ring->ready(0);
          ring->ready(1);
          const auto why = ring->finish_step().status();
          expect(!why.ok() && why.code() != ErrorCode::timed_out, "{}", why.message());
          expect(why.message().find("rank") != std::string::npos, "{}", why.message());
          ++failed;
        },
        with("auto", 2)));
    CHECK(failed == 3);
  }
}

}  // namespace
