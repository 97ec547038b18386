// SPDX-License-Identifier: Apache-2.0
#include "ps/host_memory.h"

#include <algorithm>

#include "libdist/host/word_sum.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using ps::HostMemory;
using test::expect;
using test::expect_ok;

constexpr std::uint64_t kElems = 5000;

Arena make_arena(World& world) {
  auto arena = Arena::create({{"a", Elems(kElems)}}).value();
  std::ranges::fill(arena.parameter_span<float>(0), static_cast<float>(world.rank() + 1));
  std::ranges::fill(arena.gradient_span<float>(0), static_cast<float>(10 * world.rank()));
  return arena;
}

float value(std::span<const std::byte> bytes) {
  return *reinterpret_cast<const float*>(bytes.data());
}

void barrier(World& world) {
  std::vector<std::uint64_t> word(1, 0);
  expect_ok(world.progress().run(make_word_sum(word, "barrier")));
}

TEST_CASE("everybody's gradients are read where they lie, parameters shown to all or apart") {
  for (const bool share : {true, false}) {
    INFO((share ? "shared" : "apart"));
    REQUIRE_NOTHROW(test::run_ranks("shm", 3, [&](World& world) {
      auto arena = make_arena(world);
      auto memory = *HostMemory::meet(world.progress(), world.options(), arena, true, share, 7);
      expect(memory->shares_parameters() == share, "shares_parameters()");
      const Range one{4321, 4322};
      for (Rank r = 0; r < 3; ++r) {
        expect(value(memory->gradients(r, one)) == static_cast<float>(10 * r), "gradients");
      }
      barrier(world);
      // Rank 2 writes what rank 1 reads.
      auto* const theirs = reinterpret_cast<float*>(memory->parameters(1, one).data());
      if (world.rank() == 2) *theirs = 99;
      barrier(world);
      const auto own = arena.parameter_span<float>(0);
      const float first = share ? 1 : static_cast<float>(world.rank() + 1);
      expect(own[0] == first && own[4320] == first, "the first parameters");
      expect(own[4321] == (share || world.rank() == 1 ? 99 : first), "what was written");
      barrier(world);
      // The own ones again: nobody sees what is written to them.
      expect_ok(memory->give_back_parameters());
      barrier(world);
      expect(own[4321] == (share || world.rank() == 1 ? 99 : first), "kept");
      own[0] = -1;
      if (share) expect(value(memory->parameters(0, {0, 1})) == 1, "apart");
      barrier(world);
    }));
  }
}

TEST_CASE("one rank that does not want it, or has another layout, keeps all of them from it") {
  for (const bool other_layout : {true, false}) {
    REQUIRE_NOTHROW(test::run_ranks("tcp", 3, [&](World& world) {
      auto arena = make_arena(world);
      const bool odd = world.rank() == 2;
      const auto met = HostMemory::meet(world.progress(), world.options(), arena,
                                        !odd || other_layout, true, odd && other_layout ? 8 : 7);
      expect(met.status().code() == ErrorCode::unavailable, "unavailable");
      expect(arena.parameter_span<float>(0)[0] == static_cast<float>(world.rank() + 1), "its own");
    }));
  }
}

}  // namespace
