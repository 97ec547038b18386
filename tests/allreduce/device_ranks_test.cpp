// SPDX-License-Identifier: Apache-2.0
// Ranks as processes whose arenas lie on GPUs: [fake] on fake ones, [gpu] on those of this machine,
// which ranks share where there are fewer. Started by distrun.
#include <string>
#include <vector>

#include "libdist/dist.h"
#include "libdist/memory/device.h"
#include "tests/support/catch.h"
#include "tests/support/fake_device.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect_ok;

// Whole numbers, so that every order of a sum has the same bits, and so has the mean of 2 or 4.
float gradient(int rank, std::size_t step, std::size_t i) {
  return static_cast<float>((static_cast<std::size_t>(rank) + 1) * 12 * ((i + step) % 5));
}

// By copies of the host alone, as a program without kernels of its own.
void train(World& world, Device& device, const std::string& name) {
  constexpr std::size_t kElems = 100'000;
  constexpr std::size_t kSteps = 3;
  ArenaOptions place;
  place.device = &device;
  place.stream = device.make_stream(StreamPriority::normal).value();
  auto arena = Arena::create({{"a", Elems(kElems)}, {"b", Elems(7)}}, place).value();
  const auto strategy = make_strategy(name, world, arena, Sgd{.learning_rate = 1}).value();
  expect_ok(strategy->begin());
  std::vector<float> sums(kElems, 0);
  std::vector<float> values(kElems);
  for (std::size_t step = 0; step < kSteps; ++step) {
    for (std::size_t i = 0; i < kElems; ++i) {
      values[i] = gradient(world.rank(), step, i);
      for (Rank r = 0; r < world.ranks(); ++r) sums[i] += gradient(r, step, i);
    }
    for (const std::size_t p : {0, 1}) {
      const auto to = arena.gradients(arena.range(p));
      expect_ok(device.copy(place.stream, to, std::as_bytes(std::span(values)).first(to.size())));
      strategy->ready(p);
    }
    expect_ok(strategy->finish_step().status());
    expect_ok(device.synchronize(place.stream));  // `values` are used again
  }
  expect_ok(strategy->end());
  std::vector<float> last(kElems);
  expect_ok(device.copy(place.stream, std::as_writable_bytes(std::span(last)),
                        arena.parameters(arena.range(0))));
  expect_ok(device.synchronize(place.stream));
  const auto ranks = static_cast<float>(world.ranks());
  for (std::size_t i = 0; i < kElems; ++i) {
    if (last[i] != -sums[i] / ranks) {
      FAIL(name << ": element " << i << " is " << last[i] << ", not " << -sums[i] / ranks);
    }
  }
}

void train_all(World& world, Device& device) {
  for (const std::string name : {"ring", "sync-ps"}) REQUIRE_NOTHROW(train(world, device, name));
}

TEST_CASE("ranks as processes on fake GPUs", "[fake]") {
  auto world = World::from_environment().value();
  test::FakeDevice device;
  train_all(world, device);
}

TEST_CASE("ranks as processes on the GPUs of this machine", "[gpu]") {
  if (const Status status = device_available(); !status.ok()) test::skip(status.message());
  auto world = World::from_environment().value();
  const auto device = open_device(world.options().local_rank % device_count()).value();
  train_all(world, *device);
}

}  // namespace
