// SPDX-License-Identifier: Apache-2.0
// Whole parameter servers over real transports, ranks as threads. What every strategy promises is
// in tests/contract/strategy_contract.cpp; here is what only these promise.
#include "ps/strategy.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <thread>

#include "libdist/dist.h"
#include "tests/ps/shape.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;
using test::fill_gradients;
using test::make_arena;
using test::options_for;
using test::Shape;
using test::small_arena;
using test::step;
using test::trained;

void expect_all(const Arena& arena, float value) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    for (const float v : arena.parameter_span<float>(p)) {
      if (v != value) expect(false, "{} where {} is due", v, value);
    }
  }
}

TEST_CASE("synchronous equals the ring to the bit, wherever the servers stand") {
  for (const int workers : {2, 3, 4}) {
    const auto ring = trained("ring", {workers});
    for (const int servers : {1, 2, 3}) {
      for (const auto placement : {Placement::colocated, Placement::dedicated}) {
        const Shape shape{workers, servers, placement};
        if (placement == Placement::colocated && servers > workers) continue;
        INFO(shape.describe());
        REQUIRE(trained("sync-ps", shape) == ring);
      }
    }
    INFO(workers << " workers, staleness 0");
    REQUIRE(trained("async-ps", {workers}, 0) == ring);
  }
}

TEST_CASE("asynchronous: every gradient is applied exactly once") {
  constexpr int kSteps = 6;
  for (const auto& transport : test::kThreadTransports) {
    for (const int ranks : test::kRankCounts) {
      for (const auto placement : {Placement::colocated, Placement::dedicated}) {
        const bool dedicated = placement == Placement::dedicated;
        if (dedicated && ranks == 1) continue;
        const int workers = dedicated ? ranks - 1 : ranks;
        const Shape shape{workers, dedicated ? 1 : 0, placement};
        INFO(transport << ", " << shape.describe());
        std::barrier all_pushed(workers);
        std::atomic<std::uint64_t> counted{0};
        std::atomic<std::uint64_t> histograms{0};
        REQUIRE_NOTHROW(test::run_ranks(
            transport, ranks,
            [&](World& world) {
              auto arena = small_arena();
              const Sgd adding{.learning_rate = -1};
              auto strategy = make_strategy("async-ps", world, arena, adding).value();
              expect(strategy->workers() == workers, "workers()");
              expect_ok(strategy->begin());
              if (strategy->worker() >= 0) {
                fill_gradients(arena, static_cast<float>(strategy->worker() + 1));
                for (int i = 0; i < kSteps; ++i) step(*strategy, arena);
                all_pushed.arrive_and_wait();
                fill_gradients(arena, 0);
                step(*strategy, arena);
                expect_all(arena, static_cast<float>(kSteps * workers * (workers + 1) / 2));
              }
              expect_ok(strategy->end());
              const auto histogram = strategy->server_report().staleness;
              counted += std::accumulate(histogram.begin(), histogram.end(), std::uint64_t{0});
              histograms += histogram.empty() ? 0 : 1;
            },
            options_for(shape)));
        // One count a worker and step on every server that owns something.
        REQUIRE(histograms == static_cast<std::uint64_t>(dedicated ? 1 : ranks));
        REQUIRE(counted == histograms * static_cast<std::uint64_t>(workers * (kSteps + 1)));
      }
    }
  }
}

TEST_CASE("await() gives each parameter of the next step, whatever is asked for first") {
  for (const auto* name : {"sync-ps", "async-ps"}) {
    for (const bool priority : {true, false}) {
      for (const auto placement : {Placement::colocated, Placement::dedicated}) {
        const Shape shape{2, placement == Placement::dedicated ? 2 : 0, placement};
        auto options = options_for(shape, 0);
        options.priority = priority;
        options.server_threads = priority ? 2 : 0;
        INFO(name << ", " << shape.describe());
        REQUIRE_NOTHROW(test::run_ranks(
            "tcp", shape.ranks(),
            [&](World& world) {
              auto arena = make_arena({10, 300'000, 1, 700'000, 5'000});
              auto strategy = make_strategy(name, world, arena, Sgd{.learning_rate = -1}).value();
              expect_ok(strategy->begin());
              fill_gradients(arena, 1);
              for (int i = 0; i < 4 && strategy->worker() >= 0; ++i) {
                const auto n = arena.parameter_count();
                for (std::size_t p = 0; p < n; ++p) strategy->ready(p);
                for (std::size_t k = 0; k < n; ++k) {
                  const auto p = (k * 2 + static_cast<std::size_t>(i)) % n;
                  expect_ok(strategy->await(p));
                  for (const float v : arena.parameter_span<float>(p)) {
                    if (v != static_cast<float>(i + 1)) expect(false, "not the next step's");
                  }
                }
                expect_ok(strategy->finish_step().status());
              }
              expect_ok(strategy->end());
            },
            options));
      }
    }
  }
}

TEST_CASE("one worker is never stale") {
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [](World& world) {
        auto arena = small_arena();
        auto strategy = make_strategy("async-ps", world, arena, Sgd{}).value();
        expect_ok(strategy->begin());
        for (int i = 0; i < 5 && strategy->worker() == 0; ++i) {
          expect(step(*strategy, arena).staleness == 0, "stale");
        }
        expect_ok(strategy->end());
        const auto histogram = strategy->server_report().staleness;
        if (world.rank() != 1) return;
        expect(histogram[0] == 5, "five steps of staleness 0");
      },
      options_for({1, 1, Placement::dedicated})));
}

TEST_CASE("a slow worker's gradient is stale by what was applied meanwhile, and nobody waits") {
  constexpr std::uint64_t kFastSteps = 20;
  for (const auto& transport : test::kThreadTransports) {
    std::atomic<bool> fast_done{false};
    std::atomic<std::uint64_t> stale{0};
    REQUIRE_NOTHROW(test::run_ranks(
        transport, 2,
        [&](World& world) {
          auto arena = small_arena();
          auto strategy = make_strategy("async-ps", world, arena, Sgd{}).value();
          expect_ok(strategy->begin());
          expect_ok(make_group(world).value()->barrier());  // the slow one has pulled version 0
          if (world.rank() == 0) {
            for (std::uint64_t i = 0; i < kFastSteps; ++i) step(*strategy, arena);
            fast_done = true;
          } else {
            // Does not push before the other is through: it would wait for ever if it were held.
            while (!fast_done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            expect(step(*strategy, arena).staleness == kFastSteps, "the report's staleness");
          }
          expect_ok(strategy->end());
          stale += strategy->server_report().staleness[kFastSteps];
        },
        options_for({2})));
    REQUIRE(stale == 2);  // on both servers
  }
}

TEST_CASE("the staleness bound holds at every pull, and the slack is used") {
  constexpr std::uint64_t kSteps = 25;
  for (const std::uint64_t bound : {0, 1, 4}) {
    for (const int workers : {2, 4}) {
      INFO("bound " << bound << ", " << workers << " workers");
      std::vector<std::atomic<std::uint64_t>> pushing(static_cast<std::size_t>(workers));
      std::atomic<bool> ahead{bound == 0};
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", workers,
          [&](World& world) {
            auto arena = small_arena();
            auto strategy = make_strategy("async-ps", world, arena, Sgd{}).value();
            expect_ok(strategy->begin());
            std::mt19937 random(static_cast<unsigned>(world.rank()));
            for (std::uint64_t i = 0; i < kSteps; ++i) {
              // The others let worker 0 run ahead by the bound first: nobody may hold it before.
              while (world.rank() != 0 && !ahead) std::this_thread::yield();
              if (i >= bound) {
                std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
              }
              pushing[static_cast<std::size_t>(world.rank())] = i + 1;
              step(*strategy, arena);
              for (const auto& other : pushing) {
                expect(other + bound >= i + 1, "pulled step {} too early", i + 1);
              }
              if (world.rank() == 0 && i + 1 == bound) ahead = true;
            }
            expect_ok(strategy->end());
          },
          options_for({workers}, bound)));
    }
  }
}

TEST_CASE("workers may end after different numbers of steps") {
  for (const auto* name : {"sync-ps", "async-ps"}) {
    INFO(name);
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 3,
        [&](World& world) {
          auto arena = small_arena();
          auto strategy = make_strategy(name, world, arena, Sgd{.learning_rate = -1}).value();
          expect_ok(strategy->begin());
          fill_gradients(arena, 1);
          for (int i = 0; i <= 3 * world.rank(); ++i) step(*strategy, arena);
          // A mean of ones is one, over however many contribute.
          if (std::string_view(name) == "sync-ps") {
            expect_all(arena, static_cast<float>(3 * world.rank() + 1));
          }
          expect_ok(strategy->end());
        },
        options_for({3}, 1)));
  }
}

TEST_CASE("backup workers: a straggler's gradients are dropped, and it keeps up") {
  constexpr std::uint64_t kSteps = 12;
  for (const auto placement : {Placement::colocated, Placement::dedicated}) {
    const Shape shape{3, 1, placement};
    auto options = options_for(shape);
    options.backup_workers = 1;
    INFO(shape.describe());
    std::atomic<std::uint64_t> applied{0};
    std::atomic<std::uint64_t> dropped{0};
    std::atomic<bool> fast_done{false};
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", shape.ranks(),
        [&](World& world) {
          auto arena = small_arena();
          auto strategy = make_strategy("sync-ps", world, arena, Sgd{.learning_rate = -1}).value();
          expect_ok(strategy->begin());
          fill_gradients(arena, 1);
          std::uint64_t newest = 0;
          for (std::uint64_t i = 0; i < kSteps && strategy->worker() >= 0; ++i) {
            if (strategy->worker() == 1 && i == 1) {
              while (!fast_done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            newest = step(*strategy, arena).step;
            if (strategy->worker() == 0 && i == 4) fast_done = true;
          }
          // It has left out what the others did without it.
          if (strategy->worker() == 1) expect(newest >= kSteps, "the newest step");
          expect_ok(strategy->end());
          applied += strategy->server_report().applied;
          dropped += strategy->server_report().dropped;
          expect(strategy->server_report().doubled == 0, "doubled");
        },
        options));
    // Every contribution is one or the other, and a step has two of them.
    const auto pieces = (applied + dropped) / (3 * kSteps);
    REQUIRE((applied + dropped) == pieces * 3 * kSteps);
    REQUIRE(pieces > 0);
    REQUIRE(dropped > 0);
    REQUIRE(applied >= 2 * pieces);
  }
}

TEST_CASE("options that contradict each other are refused when the strategy is made") {
  auto options = options_for({2});
  options.backup_workers = 2;
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [](World& world) {
        auto arena = small_arena();
        const auto made = make_strategy("sync-ps", world, arena, Sgd{});
        expect(made.status().code() == ErrorCode::invalid_argument, "code");
        expect(made.status().message().find("sync-ps -> 2 backup workers of 2") == 0, "{}",
               made.status().message());
      },
      options));
}

TEST_CASE("a dedicated server does not train") {
  REQUIRE_NOTHROW(test::run_ranks(
      "tcp", 3,
      [](World& world) {
        auto arena = small_arena();
        auto strategy = ps::make_strategy(ps::Mode::sync, world, arena, Sgd{}).value();
        expect(strategy->name() == "sync-ps", "name()");
        expect(strategy->workers() == 2, "workers()");
        expect(strategy->worker() == (world.rank() < 2 ? world.rank() : -1), "worker()");
        expect_ok(strategy->begin());
        if (strategy->worker() >= 0) step(*strategy, arena);
        expect_ok(strategy->end());
        expect(strategy->server_report().staleness.empty(), "no histogram where nothing is stale");
      },
      options_for({2, 1, Placement::dedicated})));
}

// Three steps of two ranks, of the one piece that a thousand elements are.
void check_reports(const Options& options,
                   const std::function<void(const World&, const StepReport&)>& check) {
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [&](World& world) {
        auto arena = make_arena({1000});
        auto strategy = make_strategy("sync-ps", world, arena, Sgd{}).value();
        expect_ok(strategy->begin());
        for (std::uint64_t i = 0; i < 3 && strategy->worker() >= 0; ++i) {
          const auto report = step(*strategy, arena);
          expect(report.step == i, "step");
          check(world, report);
        }
        expect_ok(strategy->end());
      },
      options));
}

// With its gaps (1008 elements), its header, and the header of the pull.
constexpr Bytes kPushAndPull = Bytes(1008 * 4 + 48 + 48);

TEST_CASE("the report counts every byte and all of the waiting") {
  check_reports(options_for({1, 1, Placement::dedicated}),
                [](const World&, const StepReport& report) {
                  expect(report.bytes_sent == kPushAndPull, "{} bytes", report.bytes_sent.value);
                  expect(report.communication_exposed > Duration(0), "exposed");
                  expect(report.communication_busy > Duration(0), "busy");
                  expect(report.update == Duration(0), "the server updates");
                });
}

TEST_CASE("in place the report counts what others read, and the memory that sharing saves") {
  check_reports(options_for({2, 1}), [](const World& world, const StepReport& report) {
    expect(report.algorithm == "in place, one copy of parameters", "{}", report.algorithm);
    // The server on rank 0 reads rank 1's piece, and is told of it by the two headers.
    expect(world.rank() == 0 || report.bytes_sent == kPushAndPull, "{} bytes",
           report.bytes_sent.value);
    expect(report.memory_saved == Bytes(1008 * 4 / 2), "{} bytes", report.memory_saved.value);
  });
}

TEST_CASE("an aliased arena's server takes no more memory than the windows") {
  // 8 GiB of parameters on two ranks, on a machine that need not have them.
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [](World& world) {
        std::vector<Parameter> list;
        for (int p = 0; p < 16; ++p) {
          list.push_back({fmt::format("p{}", p), Elems(std::uint64_t{1} << 27)});
        }
        auto arena = Arena::create(std::move(list), {.alias_window = 1_MiB}).value();
        expect(arena.alias_window() == 1_MiB, "alias_window()");
        auto strategy = make_strategy("sync-ps", world, arena, Momentum{}).value();
        expect(strategy->worker() == world.rank(), "worker()");
      },
      options_for({2})));
}

TEST_CASE("servers that do not fit are refused") {
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [](World& world) {
        auto arena = small_arena();
        const auto made = make_strategy("async-ps", world, arena, Sgd{});
        expect(made.status().code() == ErrorCode::invalid_argument, "code");
        expect(made.status().message().find("async-ps -> 3 servers do not fit into 2 ranks") == 0,
               "{}", made.status().message());
      },
      options_for({2, 3})));
}

}  // namespace
