// SPDX-License-Identifier: Apache-2.0
// Whole parameter servers, ranks as threads: who stands where, what they train.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/ranks.h"

namespace dist::test {

struct Shape {
  int workers = 2;
  int servers = 0;
  Placement placement = Placement::colocated;

  int ranks() const {
    return placement == Placement::colocated ? workers : workers + std::max(servers, 1);
  }
  std::string describe() const {
    return fmt::format("{} workers, {} {} servers", workers, servers,
                       placement == Placement::colocated ? "colocated" : "dedicated");
  }
};

inline Options options_for(const Shape& shape, std::uint64_t staleness = kUnlimitedStaleness) {
  Options options;
  options.servers = shape.servers;
  options.placement = shape.placement;
  options.staleness = staleness;
  options.first_bucket_bytes = 64_KiB;
  options.bucket_bytes = 256_KiB;
  options.timeout = std::chrono::seconds(20);
  return options;
}

inline Arena make_arena(const std::vector<std::uint64_t>& sizes) {
  std::vector<Parameter> list;
  for (const auto size : sizes) list.push_back({fmt::format("p{}", list.size()), Elems(size)});
  return Arena::create(std::move(list)).value();
}

inline Arena small_arena() { return make_arena({10, 30'000, 1, 70'000, 5'000}); }

inline void fill_gradients(const Arena& arena, float value) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    for (float& g : arena.gradient_span<float>(p)) g = value;
  }
}

inline StepReport step(Strategy& strategy, const Arena& arena) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) strategy.ready(p);
  return strategy.finish_step().value();
}

inline const Momentum kMomentum{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3};

// Trains three steps on numbers whose sum depends on the order; the parameters of worker 0.
inline std::vector<float> trained(const std::string& name, const Shape& shape,
                                  std::uint64_t staleness = kUnlimitedStaleness,
                                  const Update& update = kMomentum) {
  std::vector<float> out;
  run_ranks(
      "shm", shape.ranks(),
      [&](World& world) {
        // The third parameter is large enough to be cut into several pieces, over 3 servers too;
        // or, where that does not matter, to be split over them.
        auto arena = make_arena({10, 30'000, needs_norms(update) ? 350'001u : 1'600'001u, 70'000});
        auto strategy = make_strategy(name, world, arena, update).value();
        // Lars has something to take a ratio of.
        for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
          std::ranges::fill(arena.parameter_span<float>(p), 1.0f);
        }
        expect_ok(strategy->begin());
        std::uint32_t random = 1 + static_cast<std::uint32_t>(world.rank());
        for (int i = 0; i < 3 && strategy->worker() >= 0; ++i) {
          for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
            for (float& g : arena.gradient_span<float>(p)) {
              random = random * 1664525 + 1013904223;
              g = static_cast<float>(random >> 16) * (random & 0x8000 ? 1e3f : -1e-3f);
            }
          }
          step(*strategy, arena);
        }
        expect_ok(strategy->end());
        for (std::size_t p = 0; p < arena.parameter_count() && strategy->worker() == 0; ++p) {
          const auto values = arena.parameter_span<float>(p);
          out.insert(out.end(), values.begin(), values.end());
        }
      },
      options_for(shape, staleness));
  return out;
}

}  // namespace dist::test
