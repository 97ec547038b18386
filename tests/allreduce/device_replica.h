// SPDX-License-Identifier: Apache-2.0
// A replica on a fake GPU with its exchange over the fake NCCL, and the same training by one loop.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "allreduce/device_exchange.h"
#include "libdist/memory/reduce.h"
#include "libdist/plan.h"
#include "libdist/update.h"
#include "tests/allreduce/nccl_seats.h"

namespace dist::test {

// Backward order, sizes that do not divide; buckets of 64 bytes and above.
inline std::vector<Parameter> parameters() {
  return {{"d", Elems(5), DType::f32, false},
          {"c", Elems(100)},
          {"b", Elems(7), DType::f32, false},
          {"a", Elems(333)}};
}

inline Options small_buckets(Duration timeout = std::chrono::seconds(30)) {
  Options chosen;
  chosen.first_bucket_bytes = 64_B;
  chosen.bucket_bytes = 300_B;
  chosen.timeout = timeout;
  return chosen;
}

inline void run_small(int ranks, const std::function<void(World&, Seat&)>& body,
                      const Options& chosen = small_buckets()) {
  run_seats(ranks, body, chosen);
}

inline float initial(std::uint64_t element) { return static_cast<float>(element % 13) - 6; }

inline float gradient(Rank rank, std::uint64_t step, std::uint64_t element) {
  return static_cast<float>(
             (element * 7919 + static_cast<std::uint64_t>(rank) * 104729 + step * 31) % 999) /
             700 -
         0.7f;
}

// The gradients of a rank as they lie in its arena.
inline std::vector<float> gradients_of(const Arena& arena, Rank rank, std::uint64_t step) {
  std::vector<float> all(arena.elems().value);
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    for (auto i = arena.range(p).begin; i < arena.range(p).end; ++i) {
      all[i] = gradient(rank, step, i);
    }
  }
  return all;
}

inline std::vector<float> initial_of(const Arena& arena) {
  std::vector<float> all(arena.elems().value);
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    for (auto i = arena.range(p).begin; i < arena.range(p).end; ++i) all[i] = initial(i);
  }
  return all;
}

struct Job {
  int ranks = 2;
  allreduce::DeviceExchangeOptions how{};
  Update update = Momentum{.learning_rate = 0.1, .weight_decay = 1e-3};
  /// By rank; who has no more stands by.
  std::vector<std::uint64_t> steps = std::vector<std::uint64_t>(8, 4);

  std::uint64_t most() const { return *std::max_element(steps.begin(), steps.begin() + ranks); }
};

inline std::span<std::byte> bytes(std::vector<float>& values) {
  return std::as_writable_bytes(std::span(values));
}

// All steps of a job by one loop on the host: parameters at the beginning of each, and at the end;
// with the rule mean-gradient the means instead.
inline std::vector<std::vector<float>> serial(const Job& job) {
  const auto arena = Arena::create(parameters()).value();
  const auto buckets = make_buckets(arena, {300_B, 64_B});
  auto updater = Updater::create(job.update, layout_of(arena), DType::f32).value();
  auto now = initial_of(arena);
  std::vector<std::vector<float>> states = {now};
  for (std::uint64_t step = 0; step < job.most(); ++step) {
    std::vector<std::vector<float>> own;
    std::vector<float> none(now.size(), -0.0f);
    int contributors = 0;
    for (Rank r = 0; r < job.ranks; ++r) {
      const bool has = step < job.steps[static_cast<std::size_t>(r)];
      own.push_back(has ? gradients_of(arena, r, step) : none);
      contributors += has ? 1 : 0;
    }
    std::vector<float> sum(now.size());
    const auto add = [&](Range range, Rank first) {
      std::vector<std::span<const std::byte>> sources;
      for (Rank k = 0; k < job.ranks; ++k) {
        auto& from = own[static_cast<std::size_t>((first + k) % job.ranks)];
        sources.push_back(bytes(from).subspan(range.begin * 4, range.elems() * 4));
      }
      const std::array<std::span<std::byte>, 1> out = {
          bytes(sum).subspan(range.begin * 4, range.elems() * 4)};
      reduce_in_order(out, sources, DType::f32, Reduction::sum);
    };
    for (const Bucket& bucket : buckets) {
      for (int c = 0; job.how.ring && c < job.ranks; ++c) {
        add(chunk_range(bucket.range, job.ranks, c), first_summand(c));
      }
      if (!job.how.ring) add(bucket.range, 0);
    }
    if (!updater.updates_parameters()) {
      divide(bytes(sum), static_cast<std::uint64_t>(contributors), DType::f32);
      states.push_back(sum);
      continue;
    }
    std::vector<double> squares(updater.square_count());
    updater.add_squares(bytes(now), bytes(sum), 0, squares);
    updater.apply(bytes(now), bytes(sum), 0, {1.0 / contributors, step, squares});
    states.push_back(now);
  }
  return states;
}

// One rank's replica.
struct Replica {
  Replica(World& world, Seat& at, const Job& job)
      : seat(at),
        arena(Arena::create(parameters(), {.device = &at.device, .stream = at.stream}).value()),
        buckets(make_buckets(arena,
                             {world.options().bucket_bytes, world.options().first_bucket_bytes})),
        updater(
            DeviceUpdater::create(at.device, job.update, layout_of(arena), arena.dtype()).value()) {
    auto group = make_group(world, at).value();
    exchange =
        allreduce::make_device_exchange({world.progress(), world.operation_order(), world.trace(),
                                         world.options(), at.device, arena, buckets, updater},
                                        std::move(group), job.how)
            .value();
  }

  Range whole() const { return {0, arena.elems().value}; }

  // In the order of the program's stream; the host's copy stays until the end.
  void copy_in(std::span<std::byte> to, std::vector<float> values) {
    held.push_back(std::make_unique<std::vector<float>>(std::move(values)));
    expect_ok(seat.device.copy(seat.stream, to, bytes(*held.back())));
  }
  std::vector<float>& copy_out(std::span<const std::byte> from) {
    held.push_back(std::make_unique<std::vector<float>>(from.size() / sizeof(float)));
    expect_ok(seat.device.copy(seat.stream, bytes(*held.back()), from));
    return *held.back();
  }

  void begin() {
    // Others have something else there.
    auto first = initial_of(arena);
    if (seat.rank != 0) std::fill(first.begin(), first.end(), 99.0f);
    copy_in(arena.parameters(whole()), first);
    expect_ok(exchange->begin());
    seen.push_back(&copy_out(arena.parameters(whole())));
  }

  // A backward pass that reads the parameters until its end.
  void backward(std::uint64_t step) {
    const auto own = gradients_of(arena, seat.rank, step);
    for (std::size_t b = 0; b < buckets.size(); ++b) {
      const Range range = buckets[b].range;
      copy_in(arena.gradients(range), {own.begin() + static_cast<std::ptrdiff_t>(range.begin),
                                       own.begin() + static_cast<std::ptrdiff_t>(range.end)});
      exchange->start(b);
    }
    read_last.push_back(&copy_out(arena.parameters(whole())));
  }

  Result<StepReport> finish(std::uint64_t step) {
    StepReport report;
    report.step = step;
    DIST_TRY(exchange->finish(&report));
    const bool updates = updater.updates_parameters();
    seen.push_back(&copy_out(updates ? arena.parameters(whole()) : arena.gradients(whole())));
    return report;
  }

  // As RingStrategy::stand_by().
  bool stand_by(std::uint64_t step) {
    exchange->join();
    expect_ok(seat.device.fill(seat.stream, DType::f32, arena.gradients(whole()), -0.0));
    for (std::size_t b = 0; b < buckets.size(); ++b) exchange->start(b);
    return finish(step).value().contributors != 0;
  }

  Seat& seat;
  std::vector<std::unique_ptr<std::vector<float>>> held;
  Arena arena;
  std::vector<Bucket> buckets;
  DeviceUpdater updater;
  std::unique_ptr<allreduce::Exchange> exchange;
  std::vector<std::vector<float>*> seen;       // at the beginning of each step, and at the end
  std::vector<std::vector<float>*> read_last;  // at the end of each backward pass
};

}  // namespace dist::test
