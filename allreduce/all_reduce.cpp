// SPDX-License-Identifier: Apache-2.0
#include "allreduce/all_reduce.h"

#include <algorithm>

#include "allreduce/executor.h"
#include "allreduce/ring_plan.h"

namespace dist::allreduce {
namespace {

// More pieces than this no longer shorten the chain noticeably.
constexpr std::uint64_t kBroadcastChunks = 64;

std::uint64_t elems_of(const AllReduceOptions& options) {
  return options.data.size() / size_of(options.dtype);
}

}  // namespace

std::unique_ptr<Task> make_ring_all_reduce(AllReduceOptions options, Trace& trace) {
  auto plan = ring_all_reduce_plan(options.rank, options.ranks, elems_of(options));
  return std::make_unique<Executor>(std::move(plan), std::move(options), trace);
}

std::unique_ptr<Task> make_ring_broadcast(AllReduceOptions options, Trace& trace) {
  const auto segments = options.data.size() / std::max<std::uint64_t>(options.segment_bytes, 1);
  const auto chunks = std::clamp<std::uint64_t>(segments, 1, kBroadcastChunks);
  auto plan =
      broadcast_plan(options.rank, options.ranks, elems_of(options), static_cast<int>(chunks));
  return std::make_unique<Executor>(std::move(plan), std::move(options), trace);
}

}  // namespace dist::allreduce
