// SPDX-License-Identifier: Apache-2.0
// A training loop whose work runs in the order of a stream, on a fake GPU or, at once, on the host:
// what a strategy makes of both must be the same to the bit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/fake_device.h"
#include "tests/support/ranks.h"

namespace dist::test {

constexpr std::size_t kSteps = 4;

inline std::vector<Parameter> device_parameters() {
  return {{"a", Elems(5)}, {"b", Elems(300)}, {"c", Elems(1)}, {"d", Elems(70)}};
}

// A replica whose work runs on the arena's stream, or at once where the arena is the host's.
struct Replica {
  explicit Replica(FakeDevice* on) : device(on) {
    if (device != nullptr) stream = device->make_stream(StreamPriority::normal).value();
    ArenaOptions place;
    place.device = device;
    place.stream = stream;
    arena = std::make_unique<Arena>(Arena::create(device_parameters(), place).value());
  }

  void work(const std::function<void()>& body) const {
    device != nullptr ? FakeDevice::enqueue(stream, body) : body();
  }
  void wait() const {
    if (device != nullptr) expect_ok(device->synchronize(stream));
  }
  std::vector<float> parameters() const {
    wait();
    std::vector<float> all;
    for (std::size_t p = 0; p < arena->parameter_count(); ++p) {
      const auto span = arena->parameter_span<float>(p);
      all.insert(all.end(), span.begin(), span.end());
    }
    return all;
  }

  FakeDevice* device;
  Stream stream;
  std::unique_ptr<Arena> arena;
};

// A gradient that depends on the parameters: who gets old ones computes others.
inline void backward(const Replica& replica, Strategy& strategy, int rank, std::size_t step) {
  for (std::size_t p = 0; p < replica.arena->parameter_count(); ++p) {
    const auto parameters = replica.arena->parameter_span<float>(p);
    const auto gradients = replica.arena->gradient_span<float>(p);
    replica.work([=] {
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        gradients[i] = 0.25f * parameters[i] +
                       static_cast<float>((i + p + step) % 7 + static_cast<std::size_t>(rank));
      }
    });
    strategy.ready(p);
  }
}

// Every other step as an overlapped forward pass would: each parameter when it is needed.
inline void forward(const Replica& replica, Strategy& strategy, std::vector<float>* seen) {
  for (std::size_t p = replica.arena->parameter_count(); p-- > 0;) {
    expect_ok(strategy.await(p));
    const auto parameters = replica.arena->parameter_span<float>(p);
    replica.work([=] { seen->insert(seen->end(), parameters.begin(), parameters.end()); });
  }
}

using MakeStrategy = std::function<std::unique_ptr<Strategy>(World&, Arena&, const Update&)>;

inline MakeStrategy by_name(const std::string& name) {
  return [=](World& world, Arena& arena, const Update& update) {
    return make_strategy(name, world, arena, update).value();
  };
}

// The parameters after every step, and what an overlapped forward pass read. On a device the
// reports name an algorithm that begins so.
inline std::vector<float> train(World& world, const Update& update, FakeDevice* device,
                                const MakeStrategy& make, const std::string& algorithm = "") {
  const Replica replica(device);
  replica.work([&] {
    for (std::size_t p = 0; p < replica.arena->parameter_count(); ++p) {
      for (float& value : replica.arena->parameter_span<float>(p)) {
        value = static_cast<float>(world.rank() + 1);
      }
    }
  });
  const auto strategy = make(world, *replica.arena, update);
  expect_ok(strategy->begin());
  std::vector<float> all = replica.parameters();
  std::vector<float> seen;
  for (std::size_t step = 0; step < kSteps; ++step) {
    backward(replica, *strategy, world.rank(), step);
    if (step % 2 == 1) forward(replica, *strategy, &seen);
    const auto report = strategy->finish_step();
    expect_ok(report.status());
    expect(report->step == step, "StepReport::step");
    if (device != nullptr) {
      expect(report->algorithm.starts_with(algorithm), "{}", report->algorithm);
    }
    if (step % 2 == 1) continue;  // the next step follows without a wait
    const auto now = replica.parameters();
    all.insert(all.end(), now.begin(), now.end());
  }
  expect_ok(strategy->end());
  replica.wait();
  all.insert(all.end(), seen.begin(), seen.end());
  const auto last = replica.parameters();
  all.insert(all.end(), last.begin(), last.end());
  return all;
}

// Three ranks, of which rank r has r + 1 batches of gradients 6 r. The update is the program's own,
// on its stream, or the library's. Who has no more data joins the others, at once or step by step.
inline void train_uneven(World& world, FakeDevice& device, const MakeStrategy& make,
                         bool program_updates, bool one_by_one = false) {
  const Replica replica(&device);
  const Update rule = program_updates ? Update(MeanGradient{}) : Update(Sgd{.learning_rate = 1});
  const auto strategy = make(world, *replica.arena, rule);
  expect_ok(strategy->begin());
  const auto update = [&] {
    const auto weights = replica.arena->parameter_span<float>(1);
    const auto gradients = replica.arena->gradient_span<float>(1);
    replica.work([=] {
      for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= gradients[i];
    });
  };
  for (int step = 0; step <= world.rank(); ++step) {
    for (std::size_t p = 0; p < replica.arena->parameter_count(); ++p) {
      const auto gradients = replica.arena->gradient_span<float>(p);
      replica.work([=, rank = world.rank()] {
        std::fill(gradients.begin(), gradients.end(), static_cast<float>(6 * rank));
      });
      strategy->ready(p);
    }
    expect_ok(strategy->finish_step().status());
    if (program_updates) update();
  }
  if (!one_by_one) expect_ok(strategy->join(update));
  while (one_by_one) {
    const auto others = strategy->stand_by();
    expect_ok(others.status());
    if (!*others) break;
    if (program_updates) update();
  }
  expect_ok(strategy->end());
  replica.wait();
  // Means over ranks 0..2, 1..2 and 2 alone: 6, 9 and 12.
  for (const float w : replica.arena->parameter_span<float>(1)) expect(w == -27, "joined replicas");
}

}  // namespace dist::test
