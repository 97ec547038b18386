// SPDX-License-Identifier: Apache-2.0
// The sweep through the strategy that stands on it: the same bits as the ring over a transport.
#include <latch>
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

Options with(const std::string& algorithm, bool share_parameters) {
  Options options;
  options.algorithm = algorithm;
  options.share_parameters = share_parameters;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 20_KiB;
  options.segment_bytes = 1000_B;
  return options;
}

std::vector<Parameter> parameters_of(DType dtype) {
  return {{"a", Elems(3), dtype},
          {"b", Elems(1), dtype},
          {"c", Elems(7001), dtype},
          {"d", Elems(64), dtype}};
}

// Values without exact sums: another order of the sum would show.
template <typename T>
void fill_gradients(const Arena& arena, Rank rank, int step) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    std::uint32_t state = 12345u + 977u * static_cast<std::uint32_t>(rank) +
                          31u * static_cast<std::uint32_t>(step) + static_cast<std::uint32_t>(p);
    for (T& gradient : arena.gradient_span<T>(p)) {
      state = state * 1664525u + 1013904223u;
      gradient = static_cast<T>(state) / static_cast<T>(1u << 31) - 1;
    }
  }
}

// The parameters of every rank after some steps, as bytes.
template <typename T>
std::vector<std::vector<std::byte>> train(const std::string& transport, int ranks,
                                          const Options& options, const UpdateRule& rule,
                                          std::string_view algorithm) {
  std::vector<std::vector<std::byte>> results(static_cast<std::size_t>(ranks));
  test::run_ranks(
      transport, ranks,
      [&](World& world) {
        Arena arena = Arena::create(parameters_of(dtype_of<T>)).value();
        for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
          for (T& value : arena.parameter_span<T>(p)) value = static_cast<T>(world.rank() + 1);
        }
        const auto ring = allreduce::make_strategy(world, arena, rule).value();
        expect_ok(ring->begin());
        for (int step = 0; step < 4; ++step) {
          fill_gradients<T>(arena, world.rank(), step);
          for (std::size_t p = 0; p < arena.parameter_count(); ++p) ring->ready(p);
          const auto report = ring->finish_step().value();
          expect(report.algorithm == algorithm, "{}", report.algorithm);
        }
        expect_ok(ring->end());
        const auto bytes = arena.parameters({0, arena.elems().value});
        results[static_cast<std::size_t>(world.rank())].assign(bytes.begin(), bytes.end());
      },
      options);
  return results;
}

TEMPLATE_TEST_CASE("fused sweep, sweep and ring give the same bits on every rank", "", float,
                   double) {
  using T = TestType;
  for (const int ranks : {2, 3, 4, 5, 8}) {
    INFO(ranks << " ranks");
    const UpdateRule rule = Momentum{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3};
    const auto ring = train<T>("shm", ranks, with("ring", true), rule, "ring");
    const auto fused = train<T>("shm", ranks, with("auto", true), rule, "fused sweep");
    const auto plain = train<T>("tcp", ranks, with("sweep", false), rule, "sweep");
    for (std::size_t r = 0; r < ring.size(); ++r) {
      INFO("rank " << r);
      CHECK(ring[r] == ring[0]);
      CHECK(fused[r] == ring[0]);
      CHECK(plain[r] == ring[0]);
    }
  }
}

TEST_CASE("ranks share one copy of the parameters from begin() to end(), and only then") {
  constexpr int kRanks = 3;
  test::run_ranks("shm", kRanks, [&](World& world) {
    auto arena = Arena::create({{"a", Elems(1000)}}).value();
    const auto values = arena.parameter_span<float>(0);
    values[0] = static_cast<float>(10 + world.rank());
    const auto ring = allreduce::make_strategy(world, arena, Sgd{.learning_rate = 1}).value();
    expect_ok(ring->begin());
    expect(values[0] == 10, "rank 0's value everywhere");
    arena.gradient_span<float>(0)[0] = static_cast<float>(3 * world.rank());
    ring->ready(0);
    const auto report = ring->finish_step().value();
    expect(values[0] == 10 - 3, "the mean of 0, 3 and 6 taken off");
    // 334 or 333 of 1000 elements (and the gap behind them) are this rank's own.
    const std::uint64_t own =
        arena.elems().value / kRanks +
        (arena.elems().value % kRanks > static_cast<std::uint64_t>(world.rank()) ? 1 : 0);
    expect(report.bytes_sent == Bytes(4 * (arena.elems().value - own)), "bytes read by others");
    const auto parameters = arena.elems().value * 4;
    expect(report.memory_saved == Bytes(parameters - parameters / kRanks), "one copy for three");
    expect(report.communication_exposed <= report.communication_busy, "times");
    expect_ok(ring->end());
    values[0] = static_cast<float>(world.rank());
    expect_ok(world.progress().failure());
    const auto second = allreduce::make_strategy(world, arena, Sgd{}).value();
    expect(values[0] == static_cast<float>(world.rank()), "its own again");
    expect_ok(second->begin());
    expect(values[0] == 0, "shared once more");
    expect_ok(second->end());
  });
  SUCCEED();
}

TEST_CASE("a strategy given up leaves every arena with its own memory") {
  std::mutex mutex;
  std::string story;
  std::latch gone(1);
  test::run_ranks("shm", 2, [&](World& world) {
    auto arena = Arena::create({{"a", Elems(1000)}}).value();
    const auto values = arena.parameter_span<float>(0);
    auto ring = allreduce::make_strategy(world, arena, Sgd{}).value();
    expect_ok(ring->begin());
    ring->ready(0);
    if (world.rank() == 1) {
      ring.reset();
      values[0] = 77;
      gone.count_down();
      return;
    }
    gone.wait();
    expect(values[0] == 0, "rank 1's memory is its own");
    const std::lock_guard lock(mutex);
    story = ring->finish_step().status().message();
  });
  INFO(story);
  CHECK(story.starts_with("ring: wait for gradients: rank 0 waits for rank 1"));
}

TEST_CASE("an arena that cannot be shared exchanges over the transport, or refuses") {
  test::run_ranks("shm", 2, [](World& world) {
    auto arena = Arena::create({{"a", Elems(100000)}}, {.alias_window = 4096_B}).value();
    const auto ring = allreduce::make_strategy(world, arena, Sgd{}).value();
    expect_ok(ring->begin());
    ring->ready(0);
    expect(ring->finish_step().value().algorithm == "ring", "the ring over shm");
    expect_ok(ring->end());
  });
  test::run_ranks(
      "shm", 2,
      [](World& world) {
        auto arena = Arena::create({{"a", Elems(100000)}}, {.alias_window = 4096_B}).value();
        const auto why = allreduce::make_strategy(world, arena, Sgd{}).status();
        expect(why.code() == ErrorCode::invalid_argument, "{}", why.message());
      },
      with("sweep", true));
  SUCCEED();
}

}  // namespace
