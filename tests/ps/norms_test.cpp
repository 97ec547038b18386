// SPDX-License-Identifier: Apache-2.0
// Updates that need norms, where several servers have a part each of a gradient.
#include <fmt/format.h>

#include <cmath>

#include "tests/ps/shape.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;
using test::Shape;
using test::trained;

// The squares of a norm are summed in another order.
TEST_CASE("where norms are taken across shards, synchronous equals the ring within 1e-6") {
  Update clipped = test::kMomentum;
  clipped.clip_norm = 1e4;
  const Update lars = Lars{.learning_rate = 0.5, .weight_decay = 1e-3, .trust = 0.02};
  const auto apart = [](const std::vector<float>& one, const std::vector<float>& other) {
    double most = one.size() == other.size() ? 0 : 1;
    for (std::size_t i = 0; most < 1 && i < one.size(); ++i) {
      most = std::max(most, std::abs(double{one[i]} - other[i]) / std::max(std::abs(one[i]), 1.0f));
    }
    return most;
  };
  for (const Update& update : {clipped, lars}) {
    for (const int workers : {2, 3, 4}) {
      const auto ring = trained("ring", {workers}, 0, update);
      for (const int servers : {1, 2, 3}) {
        for (const auto placement : {Placement::colocated, Placement::dedicated}) {
          const Shape shape{workers, servers, placement};
          if (placement == Placement::colocated && servers > workers) continue;
          INFO(name_of(update.rule) << ", " << shape.describe());
          REQUIRE(apart(trained("sync-ps", shape, 0, update), ring) <= 1e-6);
        }
      }
    }
  }
}

// By the norm of all parameters together, wherever their servers are.
TEST_CASE("asynchronous: each worker clips what it pushes") {
  Update update = Sgd{.learning_rate = 1};
  update.clip_norm = 10;
  const std::vector<Shape> shapes = {{2},
                                     {2, 1},
                                     {2, 1, Placement::dedicated},
                                     {2, 2, Placement::dedicated},
                                     {1, 3, Placement::dedicated}};
  for (const Shape& shape : shapes) {
    for (const auto* compression : {"none", "f16"}) {
      INFO(shape.describe() << ", compression " << compression);
      auto options = test::options_for(shape);
      options.compress = compression;
      options.compress_at_least = 1_B;
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", shape.ranks(),
          [&](World& world) {
            auto arena = test::make_arena({3, 90'000, 1});
            auto strategy = make_strategy("async-ps", world, arena, update).value();
            expect_ok(strategy->begin());
            if (strategy->worker() < 0) return expect_ok(strategy->end());
            // The first worker's norm is cut down to 10, the other one's stays 9.
            const double length = std::sqrt(90'004);
            for (int i = 0; i < 3; ++i) {
              test::fill_gradients(arena,
                                   static_cast<float>((world.rank() == 0 ? 100 : 9) / length));
              test::step(*strategy, arena);
            }
            expect_ok(strategy->join());
            const double wanted = -3 * (shape.workers == 1 ? 10 : 19) / length;
            for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
              for (const float got : arena.parameter_span<float>(p)) {
                expect(std::abs(got / wanted - 1) < 1e-3, "{}, not {}", got, wanted);
              }
            }
            expect_ok(strategy->end());
          },
          options));
    }
  }
}

// Worker w has data for 4 - w steps; what all have in the end.
std::vector<float> trained_unevenly(const std::string& name, const Shape& shape) {
  Update update = Sgd{.learning_rate = 0.5};
  update.clip_norm = 3;
  std::vector<float> out;
  test::run_ranks(
      "shm", shape.ranks(),
      [&](World& world) {
        auto arena = test::make_arena({10, 90'000, 1});
        auto strategy = make_strategy(name, world, arena, update).value();
        expect_ok(strategy->begin());
        if (strategy->worker() < 0) return expect_ok(strategy->end());
        for (int i = 0; i < 4 - strategy->worker(); ++i) {
          test::fill_gradients(arena, static_cast<float>(1 + i + strategy->worker()));
          test::step(*strategy, arena);
        }
        expect_ok(strategy->join());
        const auto values = arena.parameter_span<float>(1);
        if (strategy->worker() == 0) out.assign(values.begin(), values.end());
        expect_ok(strategy->end());
      },
      test::options_for(shape));
  return out;
}

TEST_CASE("norms are of those who still have data") {
  const auto ring = trained_unevenly("ring", {3});
  for (const Shape& shape : {Shape{3}, Shape{3, 2}, Shape{3, 3, Placement::dedicated}}) {
    INFO(shape.describe());
    const auto served = trained_unevenly("sync-ps", shape);
    REQUIRE(served.size() == ring.size());
    for (std::size_t i = 0; i < ring.size(); ++i) {
      if (std::abs(served[i] / ring[i] - 1) > 1e-6) REQUIRE(served[i] == ring[i]);
    }
  }
}

TEST_CASE("norms that no server could take are refused") {
  const auto refusal = [](const std::string& name, const Update& update, std::uint64_t staleness,
                          int backup_workers) {
    auto options = test::options_for({}, staleness);
    options.backup_workers = backup_workers;
    std::string message;
    test::run_ranks(
        "shm", 2,
        [&](World& world) {
          auto arena = test::small_arena();
          const auto made = make_strategy(name, world, arena, update);
          expect(!made.ok() && made.status().code() == ErrorCode::invalid_argument, "refused");
          if (world.rank() == 0) message = made.status().message();
        },
        options);
    return message;
  };
  Update clipped = Sgd{};
  clipped.clip_norm = 1;
  const std::string why =
      " needs the norm of whole gradients, and here the pieces of one are applied or dropped one "
      "by one; choose staleness 0 without backup workers or a changing membership, or ring";
  CHECK(refusal("sync-ps", clipped, 0, 1) == "sync-ps -> clip_norm" + why);
  CHECK(refusal("async-ps", Lars{}, 4, 0) == "async-ps -> optimizer lars" + why);
  Update both = Lars{};
  both.clip_norm = 1;
  CHECK(refusal("async-ps", both, 4, 0) == "async-ps -> optimizer lars" + why);
}

}  // namespace
