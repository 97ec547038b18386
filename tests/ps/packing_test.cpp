// SPDX-License-Identifier: Apache-2.0
// Compressed pushes and pulls, from the sizes of payloads to whole steps.
#include "ps/packing.h"

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using namespace dist::ps;
using test::expect;
using test::expect_ok;

TEST_CASE("who is compressed, and how long it is then") {
  Packing packing;
  packing.push = Compression::int8;
  packing.pull = Compression::f16;
  packing.at_least = 1024_B;
  const Packer packer(packing, DType::f32);
  CHECK(packer.packs(Kind::push, Elems(256)));
  CHECK_FALSE(packer.packs(Kind::push, Elems(255)));
  CHECK(packer.packs(Kind::reply, Elems(256)));
  CHECK_FALSE(packer.packs(Kind::init, Elems(256)));
  CHECK(packer.payload_bytes(Kind::push, Elems(256)) == 260_B);
  CHECK(packer.payload_bytes(Kind::push, Elems(255)) == 1020_B);
  CHECK(packer.payload_bytes(Kind::reply, Elems(256)) == 512_B);
  CHECK(packer.payload_bytes(Kind::init, Elems(256)) == 1024_B);
  const Packer plain({}, DType::f64);
  CHECK_FALSE(plain.packs(Kind::push, Elems(1 << 20)));
  CHECK(plain.payload_bytes(Kind::reply, Elems(10)) == 80_B);
}

TEST_CASE("parameters are not pulled by methods that lose too much") {
  Options options;
  options.compress_pull = "int8";
  const auto packing = Packing::from(options);
  CHECK(packing.status().code() == ErrorCode::invalid_argument);
  CHECK(packing.status().message().find("f16, bf16 or none") != std::string::npos);
}

TEST_CASE("what a peer decompresses is checked against the piece") {
  const ShardMap map =
      make_shard_map({Bucket{{0, 1000}, 0, 1}}, {.servers = 1, .dtype = DType::f32});
  Packing packing;
  packing.push = Compression::f16;
  packing.at_least = 1_B;
  const Packer packer(packing, DType::f32);
  const Expectation expected{Direction::to_server, 1, 0, &map, 0, DType::f32, &packer};
  Header header{.kind = Kind::push, .payload_bytes = 2000};
  CHECK(decode(encode(header), expected).ok());
  header.payload_bytes = 4000;
  CHECK(decode(encode(header), expected).status().code() == ErrorCode::protocol);
}

struct Case {
  std::string strategy;
  Placement placement = Placement::colocated;
  std::string compress = "none";
  std::string pull = "none";
};

// The parameters of all workers after some steps of gradients: large ones for every 100th element,
// small ones for the others.
std::vector<std::vector<float>> train(const Case& chosen, int workers, int steps) {
  Options options;
  options.placement = chosen.placement;
  options.compress = chosen.compress;
  options.compress_pull = chosen.pull;
  options.compress_at_least = 1_KiB;
  options.top_k = 0.2;
  options.staleness = 0;
  const int ranks = workers + (chosen.placement == Placement::dedicated ? 1 : 0);
  std::vector<std::vector<float>> all(static_cast<std::size_t>(workers));
  test::run_ranks(
      "tcp", ranks,
      [&](World& world) {
        auto arena = Arena::create({{"a", Elems(30'000)}, {"b", Elems(5)}}).value();
        const auto strategy =
            make_strategy(chosen.strategy, world, arena, Sgd{.learning_rate = 1}).value();
        for (const std::size_t p : {0, 1}) {
          for (float& value : arena.parameter_span<float>(p)) value = 1;
        }
        expect_ok(strategy->begin());
        for (int step = 0; strategy->worker() >= 0 && step < steps; ++step) {
          for (const std::size_t p : {0, 1}) {
            const auto gradients = arena.gradient_span<float>(p);
            for (std::size_t i = 0; i < gradients.size(); ++i) {
              gradients[i] = i % 100 == 0 ? -0.5f : -0.0078125f;
            }
            strategy->ready(p);
          }
          const auto report = strategy->finish_step().value();
          const bool others = workers > 1 || chosen.placement == Placement::dedicated;
          expect((report.compression_saved > 0_B) == (chosen.compress != "none" && others),
                 "bytes saved");
        }
        if (strategy->worker() >= 0) {
          auto& mine = all[static_cast<std::size_t>(strategy->worker())];
          for (const std::size_t p : {0, 1}) {
            const auto values = arena.parameter_span<float>(p);
            mine.insert(mine.end(), values.begin(), values.end());
          }
        }
        expect_ok(strategy->end());
      },
      options);
  return all;
}

TEST_CASE("compressed pushes: all workers have the same parameters, and everything arrives") {
  constexpr int kSteps = 64;
  for (const std::string compress : {"f16", "bf16", "int8", "top-k", "one-bit"}) {
    for (const auto placement : {Placement::colocated, Placement::dedicated}) {
      for (const std::string strategy : {"sync-ps", "async-ps"}) {
        for (const int workers : {1, 3}) {
          INFO(fmt::format("{} {} {} {} workers", strategy, compress,
                           placement == Placement::colocated ? "colocated" : "dedicated", workers));
          std::vector<std::vector<float>> all;
          REQUIRE_NOTHROW(all = train({strategy, placement, compress}, workers, kSteps));
          for (const auto& replica : all) REQUIRE(replica == all[0]);
          // Exact in f16 and bf16; with the others a few steps' worth may still be held back.
          const float held_back = needs_error_feedback(compression_named(compress).value()) ? 4 : 0;
          CHECK(std::abs(all[0][100] - 33) <= held_back);
          CHECK(std::abs(all[0][1] - 1.5f) <= held_back / 8);
        }
      }
    }
  }
}

TEST_CASE("compressed pulls: replicas have rounded parameters, the servers their own") {
  for (const auto placement : {Placement::colocated, Placement::dedicated}) {
    const auto all = train({"sync-ps", placement, "none", "bf16"}, 2, 8);
    for (const auto& replica : all) REQUIRE(replica == all[0]);
    // 1 + 8 / 128 needs more bits than a sum of roundings would keep: 1.0625 and not 1.
    CHECK(all[0][1] == 1.0625f);
    CHECK(all[0][100] == 5);
  }
}

TEST_CASE("ranks that compress differently are refused") {
  Options options;
  options.servers = 1;
  std::vector<Status> outcomes(2);
  auto group = test::make_group("shm", 2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      Options own = options;
      own.rank = rank;
      own.ranks = 2;
      own.compress = rank == 0 ? "f16" : "none";
      World world = World::over(std::move(group[static_cast<std::size_t>(rank)]), own);
      auto arena = Arena::create({{"a", Elems(3000)}}).value();
      const auto strategy = dist::make_strategy("sync-ps", world, arena, Sgd{}).value();
      outcomes[static_cast<std::size_t>(rank)] = strategy->begin();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(outcomes[1].ok());
  CHECK(outcomes[1].message().find("layout") != std::string::npos);
}

}  // namespace
