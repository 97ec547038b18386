// SPDX-License-Identifier: Apache-2.0
#include "allreduce/compressed_all_reduce.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <mutex>
#include <string>

#include "allreduce/strategy.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

constexpr std::array kMethods = {Compression::f16, Compression::bf16, Compression::int8};

// Whole numbers of which each, and each sum, is exact: int8 with the same number everywhere.
float value(Compression method, Rank rank, std::size_t i) {
  if (method == Compression::int8) return 127;
  return i % 8 == 0 ? 64.0f : static_cast<float>(static_cast<std::size_t>(rank + 3) * (i % 5));
}

TEST_CASE("sums that a codec can hold are exact, on every rank, with its bytes") {
  for (const Compression method : kMethods) {
    for (const auto& transport : test::kThreadTransports) {
      for (const int ranks : {1, 2, 3, 5}) {
        for (const std::size_t elems : {0, 1, 3, 64, 1001}) {
          INFO(name_of(method) << " " << transport << " " << ranks << " ranks " << elems);
          REQUIRE_NOTHROW(test::run_ranks(transport, ranks, [&](World& world) {
            std::vector<float> data(elems);
            for (std::size_t i = 0; i < elems; ++i) data[i] = value(method, world.rank(), i);
            Compressor compressor(method, 1, DType::f32);
            Bytes saved;
            allreduce::AllReduceOptions options;
            options.data = std::as_writable_bytes(std::span(data));
            options.rank = world.rank();
            options.ranks = ranks;
            options.label = "test";
            expect_ok(world.progress().run(
                allreduce::make_compressed_all_reduce(options, compressor, {}, saved)));
            for (std::size_t i = 0; i < elems; ++i) {
              float sum = 0;
              for (Rank r = 0; r < ranks; ++r) sum += value(method, r, i);
              expect(data[i] == sum, "element {}: {} and not {}", i, data[i], sum);
            }
            if (ranks > 1 && elems == 1001 && method == Compression::f16) {
              // Half of the 2(N-1)/N that a ring sends.
              expect(saved == world.progress().counters().sent, "bytes saved");
            }
          }));
        }
      }
    }
  }
}

// Gradients of which int8 loses most of every small one.
void train(World& world, std::vector<float>* parameters) {
  auto arena = Arena::create({{"a", Elems(600)}}).value();
  const auto ring = allreduce::make_strategy(world, arena, Sgd{.learning_rate = 1}).value();
  expect_ok(ring->begin());
  for (int step = 0; step < 40; ++step) {
    const auto gradients = arena.gradient_span<float>(0);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      gradients[i] = i % 64 == 0 ? 100 : 0.01f * static_cast<float>(world.rank() + 1);
    }
    ring->ready(0);
    const auto report = ring->finish_step().value();
    expect(report.algorithm == "all-to-all, compressed", "algorithm");
    expect(report.compression_saved > report.bytes_sent, "int8 saves more than half");
    expect(report.compression > Duration(0), "time");
  }
  const auto values = arena.parameter_span<float>(0);
  parameters->assign(values.begin(), values.end());
  expect_ok(ring->end());
}

TEST_CASE("the strategy keeps what int8 loses, and all replicas keep the same bits") {
  Options options;
  options.compress = "int8";
  options.compress_at_least = 1_B;
  for (const int ranks : {2, 3}) {
    std::vector<std::vector<float>> all(static_cast<std::size_t>(ranks));
    REQUIRE_NOTHROW(test::run_ranks(
        "tcp", ranks,
        [&](World& world) { train(world, &all[static_cast<std::size_t>(world.rank())]); },
        options));
    for (const auto& replica : all) CHECK(replica == all[0]);
    // Exactly -40 * 0.01 * (ranks + 1) / 2 without rounding; a step of int8 is 100 / 127.
    const double mean = 0.01 * (ranks + 1) / 2;
    CHECK(std::abs(static_cast<double>(all[0][1]) + 40 * mean) <= 2 * 100.0 / 127);
    CHECK(all[0][1] != 0);
    CHECK(all[0][64] == test::Approx(-4000).epsilon(1e-3));
  }
}

TEST_CASE("small buckets travel as they are, and sums that codec cannot hold are refused") {
  Options options;
  options.compress = "f16";
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [](World& world) {
        auto arena = Arena::create({{"a", Elems(10)}}).value();
        const auto ring = allreduce::make_strategy(world, arena, Sgd{.learning_rate = 1}).value();
        expect_ok(ring->begin());
        for (float& g : arena.gradient_span<float>(0)) g = 1 + 1e-6f;
        ring->ready(0);
        expect(ring->finish_step().value().compression_saved == 0_B, "nothing was compressed");
        expect(arena.parameter_span<float>(0)[0] == -(1 + 1e-6f), "the parameter");
        expect_ok(ring->end());
      },
      options));
  for (const auto& [method, algorithm, shard] : {std::tuple{"top-k", "auto", false},
                                                 {"one-bit", "auto", false},
                                                 {"f16", "sweep", false},
                                                 {"f16", "native", false},
                                                 {"int8", "auto", true}}) {
    INFO(method << " " << algorithm);
    Options refused;
    refused.compress = method;
    refused.algorithm = algorithm;
    refused.shard_optimizer = shard;
    Status why;
    test::run_ranks(
        "shm", 1,
        [&](World& world) {
          auto arena = Arena::create({{"a", Elems(1)}}).value();
          why = allreduce::make_strategy(world, arena, Sgd{}).status();
        },
        refused);
    CHECK_FALSE(why.ok());
    CHECK(why.message().find(method == std::string("f16") && algorithm == std::string("native")
                                 ? "native"
                                 : method) != std::string::npos);
  }
}

}  // namespace
