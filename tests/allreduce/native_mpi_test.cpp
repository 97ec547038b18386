// SPDX-License-Identifier: Apache-2.0
// MPI_Iallreduce as a task and as the ring's algorithm. [threads]: refused elsewhere; [processes]:
// under mpirun.
#include <cstdint>
#include <string>
#include <vector>

#include "allreduce/all_reduce.h"
#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;

template <typename T>
Status native_sum(World& world, std::vector<T>& data, Reduction reduction = Reduction::sum) {
  return world.progress().run(
      allreduce::make_native_all_reduce({.data = std::as_writable_bytes(std::span(data)),
                                         .dtype = dtype_of<T>,
                                         .rank = world.rank(),
                                         .ranks = world.ranks(),
                                         .label = "native",
                                         .reduction = reduction},
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

template <typename T>
void check_reduction(World& world, Reduction reduction) {
  // Rank r has 2 r + 1: the mean is the number of ranks.
  std::vector<T> data(37, static_cast<T>(2 * world.rank() + 1));
  T expected = reduction == Reduction::product ? T(1) : T(0);
  for (Rank r = 0; r < world.ranks(); ++r) {
    const auto value = static_cast<T>(2 * r + 1);
    if (reduction == Reduction::sum) expected = static_cast<T>(expected + value);
    if (reduction == Reduction::product) expected = static_cast<T>(expected * value);
  }
  if (reduction == Reduction::min) expected = T(1);
  if (reduction == Reduction::max) expected = static_cast<T>(2 * world.ranks() - 1);
  if (reduction == Reduction::mean) expected = static_cast<T>(world.ranks());
  REQUIRE_OK(native_sum(world, data, reduction));
  INFO(name_of(dtype_of<T>) << ", " << name_of(reduction));
  REQUIRE(data == std::vector<T>(37, expected));
}

TEST_CASE("every type that MPI has is reduced in every way, the others are refused", "[types]") {
  auto options = Options::from_environment().value();
  options.transport = "mpi";
  auto world = World::open(std::move(options)).value();
  for (const auto reduction :
       {Reduction::sum, Reduction::mean, Reduction::min, Reduction::max, Reduction::product}) {
    check_reduction<float>(world, reduction);
    check_reduction<double>(world, reduction);
    check_reduction<std::int8_t>(world, reduction);
    check_reduction<std::int16_t>(world, reduction);
    check_reduction<std::int32_t>(world, reduction);
    check_reduction<std::int64_t>(world, reduction);
    check_reduction<std::uint8_t>(world, reduction);
    check_reduction<std::uint16_t>(world, reduction);
    check_reduction<std::uint32_t>(world, reduction);
    check_reduction<std::uint64_t>(world, reduction);
  }
  std::vector<Half> halves(5);
  const Status refused = native_sum(world, halves);
  CHECK(refused.code() == ErrorCode::unavailable);
  INFO(refused.message());
  CHECK(refused.message().find("MPI has no element type f16") != std::string::npos);
}

}  // namespace
