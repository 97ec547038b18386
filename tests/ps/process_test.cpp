// SPDX-License-Identifier: Apache-2.0
// The asynchronous parameter server among processes that mpirun started.
#include "libdist/dist.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;

TEST_CASE("asynchronous over MPI: every gradient is applied exactly once") {
  constexpr int kSteps = 5;
  auto options = Options::from_environment().value();
  options.transport = "mpi";
  options.first_bucket_bytes = 64_KiB;
  options.bucket_bytes = 1_MiB;
  options.timeout = std::chrono::seconds(20);
  auto world = World::open(std::move(options)).value();
  auto arena = Arena::create({{"a", Elems(10)}, {"b", Elems(2'000'000)}, {"c", Elems(7)}}).value();
  auto strategy = make_strategy("async-ps", world, arena, Sgd{.learning_rate = -1}).value();
  REQUIRE_OK(strategy->begin());
  const auto step = [&](float value) {
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      for (float& g : arena.gradient_span<float>(p)) g = value;
      strategy->ready(p);
    }
    REQUIRE_OK(strategy->finish_step());
  };
  for (int i = 0; i < kSteps; ++i) step(static_cast<float>(world.rank() + 1));
  REQUIRE_OK(make_group(world).value()->barrier());
  step(0);
  const auto expected = static_cast<float>(kSteps * world.ranks() * (world.ranks() + 1) / 2);
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    std::size_t wrong = 0;
    for (const float v : arena.parameter_span<float>(p)) wrong += v == expected ? 0 : 1;
    REQUIRE(wrong == 0);
  }
  REQUIRE_OK(strategy->end());
}

}  // namespace
