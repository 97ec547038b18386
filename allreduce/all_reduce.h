// SPDX-License-Identifier: Apache-2.0
// The collectives as tasks for the progress thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "allreduce/choice.h"
#include "libdist/progress.h"
#include "libdist/trace.h"
#include "libdist/transport/transport.h"
#include "libdist/types.h"

namespace dist::allreduce {

/// Of every collective here; the same on all ranks but for data and rank.
struct AllReduceOptions {
  std::span<std::byte> data;  ///< in place; must stay valid until the task has ended
  DType dtype = DType::f32;
  Rank rank = 0;  ///< of `ranks`, within the group if there are `members`
  int ranks = 1;
  std::uint64_t segment_bytes = 256 << 10;  ///< unit of pipelining; the same on every rank
  std::string label;  ///< what is exchanged, the head of every message: "ring: bucket 3"
  Channel channel = Channel::collective;
  Reduction reduction = Reduction::sum;
  /// The transport's number of each rank of a group; none: all ranks, as the transport counts them.
  std::shared_ptr<const std::vector<Rank>> members = nullptr;
};

/// Reduces over all ranks; every rank gets the same bits. The algorithm `native` as
/// make_native_all_reduce().
std::unique_ptr<Task> make_all_reduce(Algorithm algorithm, AllReduceOptions options, Trace& trace);

/// Reduces over all ranks; rank r keeps chunk_range(all, ranks, r), the rest of its data is
/// overwritten. Chunk r is summed from rank r + 1 upward.
std::unique_ptr<Task> make_reduce_scatter(AllReduceOptions options, Trace& trace);

/// Rank r's chunk_range(all, ranks, r) goes to all.
std::unique_ptr<Task> make_all_gather(AllReduceOptions options, Trace& trace);

/// How the elements of one rank reach all, or the other way round.
enum class Shape : std::uint8_t {
  tree,   ///< few rounds, for short messages
  chain,  ///< every rank passes each element on once, in pieces
};

/// Gives every rank the data of `root`.
std::unique_ptr<Task> make_broadcast(Shape shape, Rank root, AllReduceOptions options,
                                     Trace& trace);

/// Reduces into the data of `root`; that of the others is overwritten.
std::unique_ptr<Task> make_reduce(Shape shape, Rank root, AllReduceOptions options, Trace& trace);

/// Sums over all ranks by a reduce-scatter and an all-gather round the ring. The order of the sum
/// is that of libdist/plan.h; every rank gets the same bits. `trace` must outlive the task.
std::unique_ptr<Task> make_ring_all_reduce(AllReduceOptions options, Trace& trace);

/// Gives every rank the data of rank 0, handed down a chain 0 -> 1 -> ... -> ranks - 1.
std::unique_ptr<Task> make_ring_broadcast(AllReduceOptions options, Trace& trace);

/// Sums by MPI_Iallreduce; the order of the sum is MPI's choice. Fails with `unavailable` over a
/// transport that is not MPI. What MPI sends is not seen by the transport's counters.
std::unique_ptr<Task> make_native_all_reduce(AllReduceOptions options, Trace& trace);

/// Whether make_native_all_reduce works over this transport.
bool native_available(const Transport& transport);

}  // namespace dist::allreduce
