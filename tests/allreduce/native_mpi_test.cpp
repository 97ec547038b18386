// SPDX-License-Identifier: Apache-2.0
// MPI_Iallreduce as a task and as the ring's algorithm. [threads]: refused elsewhere; [processes]:
// under mpirun.
#include <vector>

#include "allreduce/all_reduce.h"
#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;

template <typename T>
Status native_sum(World& world, std::vector<T>& data) {
  return world.progress().run(
      allreduce::make_native_all_reduce({.data = std::as_writable_bytes(std::span(data)),
                                         .dtype = dtype_of<T>,
                                         .rank = world.rank(),
                                         .ranks = world.ranks(),
                                         .label = "native"},
                                        world.trace()));
}

template <typename T>
void check_sum(World& world, std::size_t elems) {
  std::vector<T> data(elems);
  std::vector<T> expected(elems);
  for (std::size_t i = 0; i < elems; ++i) {
    for (Rank r = 0; r < world.ranks(); ++r) {
      const auto value = static_cast<T>(i % 1000) * static_cast<T>(r + 1);
      if (r == world.rank()) data[i] = value;
      expected[i] += value;
    }
  }
  REQUIRE_OK(native_sum(world, data));
  REQUIRE(data == expected);
}

TEST_CASE("over another transport it is unavailable and says so", "[threads]") {
  Status failure;
  test::run_ranks("shm", 1, [&](World& world) {
    test::expect(!allreduce::native_available(world.progress().transport()), "native_available");
    std::vector<float> data(3, 1);
    failure = native_sum(world, data);
  });
  INFO(failure.message());
  CHECK(failure.code() == ErrorCode::unavailable);
  CHECK(failure.message().starts_with("native -> MPI_Iallreduce"));
}

TEST_CASE("integers are summed exactly, alone and as the ring's algorithm", "[processes]") {
  auto options = Options::from_environment().value();
  options.transport = "mpi";
  options.algorithm = "native";
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 4_KiB;
  auto world = World::open(std::move(options)).value();
  REQUIRE(allreduce::native_available(world.progress().transport()));
  for (const std::size_t elems : {0, 1, 7, 1000, 1000003}) {
    check_sum<float>(world, elems);
    check_sum<double>(world, elems);
  }

  auto arena = Arena::create({{"a", Elems(5)}, {"b", Elems(3000)}, {"c", Elems(1)}}).value();
  auto ring = make_strategy("ring", world, arena, Sgd{.learning_rate = 1}).value();
  REQUIRE_OK(ring->begin());
  // The sum is a multiple of the rank count: the mean is an integer.
  for (int step = 1; step <= 3; ++step) {
    for (const std::size_t p : {2, 0, 1}) {
      for (float& g : arena.gradient_span<float>(p)) g = static_cast<float>(2 * world.rank() + 1);
      ring->ready(p);
    }
    REQUIRE_OK(ring->finish_step());
    for (std::size_t p = 0; p < 3; ++p) {
      for (const float value : arena.parameter_span<float>(p)) {
        REQUIRE(value == static_cast<float>(-step * world.ranks()));
      }
    }
  }
  REQUIRE_OK(ring->end());
}

}  // namespace
