// SPDX-License-Identifier: Apache-2.0
#include "bench/tune/measure.h"
#include "bench/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "allreduce/group.h"
#include "libdist/dist.h"
#include "libdist/memory/reduce.h"

namespace dist::bench {
namespace {

constexpr std::uint64_t kMostCalls = 10000;
constexpr std::size_t kGammaElems = 32 << 10;
constexpr int kGammaCalls = 200;

using Groups = std::vector<std::unique_ptr<Group>>;

double seconds_since(TimePoint begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Seconds a call, of the slowest rank.
Result<double> turn(Group& group, std::vector<float>& data, std::uint64_t calls) {
  DIST_TRY(group.barrier());
  const auto begin = Clock::now();
  for (std::uint64_t call = 0; call < calls; ++call) DIST_TRY(group.all_reduce(data));
  std::vector<double> seconds = {seconds_since(begin) / static_cast<double>(calls)};
  DIST_TRY(group.all_reduce(seconds, Reduction::max));
  return seconds.front();
}

// Ones sum up to the number of ranks; a power of it after more calls, which zeros avoid.
Status check_sum(Group& group, std::vector<float>& data) {
  std::fill(data.begin(), data.end(), 1.0f);
  DIST_TRY(group.all_reduce(data));
  const auto right = [&](float value) { return value == static_cast<float>(group.ranks()); };
  if (!std::all_of(data.begin(), data.end(), right)) {
    return Status::protocol(fmt::format("{} of {} floats over {} ranks gave a wrong sum",
                                        group.algorithm(Bytes(data.size() * sizeof(float))),
                                        data.size(), group.ranks()));
  }
  std::fill(data.begin(), data.end(), 0.0f);
  return {};
}

Status measure_size(Groups& groups, std::uint64_t bytes, int ranks, const MeasureOptions& options,
                    std::vector<Timing>* timings) {
  std::vector<float> data(std::max<std::uint64_t>(bytes / sizeof(float), 1));
  std::vector<std::uint64_t> calls;
  for (const auto& group : groups) {
    DIST_TRY(check_sum(*group, data));
    const auto once = turn(*group, data, 3);
    DIST_TRY(once);
    calls.push_back(std::clamp<std::uint64_t>(
        static_cast<std::uint64_t>(options.turn_ms / 1000 / std::max(*once, 1e-9)), 1, kMostCalls));
  }
  std::vector<std::vector<double>> seconds(groups.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const auto measured = turn(*groups[g], data, calls[g]);
      DIST_TRY(measured);
      seconds[g].push_back(*measured);
    }
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    timings->push_back({ranks, bytes, options.algorithms[g], median(std::move(seconds[g]))});
  }
  return {};
}

}  // namespace

Result<std::vector<Timing>> measure(World& world, int ranks, const MeasureOptions& options) {
  std::vector<Timing> timings;
  if (world.rank() < ranks) {
    std::vector<Rank> members(static_cast<std::size_t>(ranks));
    std::iota(members.begin(), members.end(), 0);
    Groups groups;
    for (const auto algorithm : options.algorithms) {
      auto group = allreduce::make_group(world, members, std::string(name_of(algorithm)));
      DIST_TRY(group);
      groups.push_back(*std::move(group));
    }
    for (const std::uint64_t bytes : options.bytes) {
      DIST_TRY(measure_size(groups, bytes, ranks, options, &timings));
    }
  }
  auto all = make_group(world);
  DIST_TRY(all);
  DIST_TRY((*all)->barrier());
  return timings;
}

double measure_gamma(int rounds) {
  std::vector<float> out(kGammaElems, 1.0f);
  const std::vector<float> in(kGammaElems, 0.0f);
  std::vector<double> seconds;
  for (int round = 0; round < std::max(rounds, 1); ++round) {
    const auto begin = Clock::now();
    for (int call = 0; call < kGammaCalls; ++call) {
      reduce_into(std::as_writable_bytes(std::span(out)), std::as_bytes(std::span(in)), DType::f32,
                  Reduction::sum);
    }
    seconds.push_back(seconds_since(begin));
  }
  return median(std::move(seconds)) /
         (kGammaCalls * static_cast<double>(kGammaElems) * sizeof(float));
}

}  // namespace dist::bench
