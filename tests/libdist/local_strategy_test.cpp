// SPDX-License-Identifier: Apache-2.0
#include "libdist/local_strategy.h"

#include "libdist/transport/shm.h"
#include "tests/support/catch.h"

namespace {

TEST_CASE("none: each rank updates its own replica and sends nothing") {
  auto group = dist::make_shm_group(1);
  auto world = dist::World::over(std::move(group[0]), {});
  auto arena = dist::Arena::create({{"a", dist::Elems(3)}, {"b", dist::Elems(1)}}).value();
  auto strategy =
      dist::make_local_strategy(world, arena, dist::Momentum{.learning_rate = 1, .momentum = 0.5})
          .value();
  CHECK(strategy->name() == "none");
  CHECK(strategy->workers() == 1);
  CHECK(strategy->worker() == 0);
  REQUIRE_OK(strategy->begin());
  // Gradients 2 and 4: velocities 2, 3 and 4, 6.
  for (std::uint64_t step = 0; step < 2; ++step) {
    for (float& g : arena.gradient_span<float>(0)) g = 2;
    for (float& g : arena.gradient_span<float>(1)) g = 4;
    strategy->ready(1);
    strategy->ready(0);
    const auto report = strategy->finish_step();
    REQUIRE_OK(report);
    CHECK(report->step == step);
    CHECK(report->bytes_sent == dist::Bytes(0));
    CHECK(report->communication_busy == dist::Duration(0));
    CHECK(report->communication_exposed == dist::Duration(0));
  }
  for (const float p : arena.parameter_span<float>(0)) CHECK(p == -5);
  for (const float p : arena.parameter_span<float>(1)) CHECK(p == -10);
  REQUIRE_OK(strategy->end());
}

}  // namespace
