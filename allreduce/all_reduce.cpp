// SPDX-License-Identifier: Apache-2.0
#include "allreduce/all_reduce.h"

#include <algorithm>

#include "allreduce/doubling_plan.h"
#include "allreduce/executor.h"
#include "allreduce/ring_plan.h"
#include "allreduce/tree_plan.h"

namespace dist::allreduce {
namespace {

// More pieces than this no longer shorten the chain noticeably.
constexpr std::uint64_t kChainChunks = 64;

std::uint64_t elems_of(const AllReduceOptions& options) {
  return options.data.size() / size_of(options.dtype);
}

int chain_chunks(const AllReduceOptions& options) {
  const auto segments = options.data.size() / std::max<std::uint64_t>(options.segment_bytes, 1);
  return static_cast<int>(std::clamp<std::uint64_t>(segments, 1, kChainChunks));
}

std::unique_ptr<Task> execute(Plan plan, AllReduceOptions options, Trace& trace) {
  return std::make_unique<Executor>(std::move(plan), std::move(options), trace);
}

Plan all_reduce_plan(Algorithm algorithm, const AllReduceOptions& o) {
  switch (algorithm) {
    case Algorithm::doubling:
      return doubling_all_reduce_plan(o.rank, o.ranks, elems_of(o));
    case Algorithm::halving:
      return halving_all_reduce_plan(o.rank, o.ranks, elems_of(o));
    case Algorithm::tree:
      return tree_all_reduce_plan(o.rank, o.ranks, elems_of(o));
    case Algorithm::ring:
    case Algorithm::native:
      break;
  }
  return ring_all_reduce_plan(o.rank, o.ranks, elems_of(o));
}

}  // namespace

std::unique_ptr<Task> make_all_reduce(Algorithm algorithm, AllReduceOptions options, Trace& trace) {
  if (algorithm == Algorithm::native) return make_native_all_reduce(std::move(options), trace);
  auto plan = all_reduce_plan(algorithm, options);
  return execute(std::move(plan), std::move(options), trace);
}

std::unique_ptr<Task> make_reduce_scatter(AllReduceOptions options, Trace& trace) {
  auto plan = ring_reduce_scatter_plan(options.rank, options.ranks, elems_of(options), 1);
  return execute(std::move(plan), std::move(options), trace);
}

std::unique_ptr<Task> make_all_gather(AllReduceOptions options, Trace& trace) {
  auto plan = ring_all_gather_plan(options.rank, options.ranks, elems_of(options), 1);
  return execute(std::move(plan), std::move(options), trace);
}

std::unique_ptr<Task> make_broadcast(Shape shape, Rank root, AllReduceOptions options,
                                     Trace& trace) {
  const auto& o = options;
  auto plan = shape == Shape::tree
                  ? tree_broadcast_plan(o.rank, o.ranks, elems_of(o), root)
                  : chain_broadcast_plan(o.rank, o.ranks, elems_of(o), root, chain_chunks(o));
  return execute(std::move(plan), std::move(options), trace);
}

std::unique_ptr<Task> make_reduce(Shape shape, Rank root, AllReduceOptions options, Trace& trace) {
  const auto& o = options;
  auto plan = shape == Shape::tree
                  ? tree_reduce_plan(o.rank, o.ranks, elems_of(o), root)
                  : chain_reduce_plan(o.rank, o.ranks, elems_of(o), root, chain_chunks(o));
  return execute(std::move(plan), std::move(options), trace);
}

std::unique_ptr<Task> make_ring_all_reduce(AllReduceOptions options, Trace& trace) {
  return make_all_reduce(Algorithm::ring, std::move(options), trace);
}

std::unique_ptr<Task> make_ring_broadcast(AllReduceOptions options, Trace& trace) {
  return make_broadcast(Shape::chain, 0, std::move(options), trace);
}

}  // namespace dist::allreduce
