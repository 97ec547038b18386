// SPDX-License-Identifier: Apache-2.0
// Sharded over a transport; the unsharded ring stands in strategy_test.cpp and tests/contract.
#include <string>

#include "allreduce/strategy.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

Status refusal(const std::string& algorithm) {
  Options options;
  options.algorithm = algorithm;
  options.shard_optimizer = true;
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

TEST_CASE("sharded: as many bytes as unsharded, said in the report") {
  Options options;
  options.shard_optimizer = true;
  options.segment_bytes = 100_B;
  for (const int ranks : {2, 3, 5}) {
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", ranks,
        [&](World& world) {
          const auto n = static_cast<std::uint64_t>(ranks);
          auto arena = Arena::create({{"a", Elems(480 * n)}}).value();
          const auto ring =
              allreduce::make_strategy(world, arena, Momentum{.learning_rate = 1}).value();
          expect_ok(ring->begin());
          for (int step = 0; step < 3; ++step) {
            for (float& g : arena.gradient_span<float>(0)) {
              g = static_cast<float>(world.rank() * 2);
            }
            ring->ready(0);
            const auto report = ring->finish_step().value();
            expect(report.algorithm == "ring, sharded", "{}", report.algorithm);
            expect(report.bytes_sent == Bytes(2 * (n - 1) * 480 * 4), "bytes");
            expect(report.memory_saved == Bytes((n - 1) * 480 * 4), "the state of the others");
          }
          // Momentum 0.9 and the mean gradient ranks - 1: 1, 1.9 and 2.71 of it.
          const auto mean = static_cast<double>(ranks - 1);
          for (const float p : arena.parameter_span<float>(0)) {
            expect(std::abs(p + mean * 5.61) < 1e-4, "parameters");
          }
          expect_ok(ring->end());
        },
        options));
  }
}

TEST_CASE("sharded is refused where it is not a choice") {
  CHECK(refusal("auto").ok());
  CHECK(refusal("ring").ok());
  CHECK(refusal("sweep").code() == ErrorCode::invalid_argument);
  CHECK(refusal("hierarchical").message().find("shard the state") != std::string::npos);
}

}  // namespace
