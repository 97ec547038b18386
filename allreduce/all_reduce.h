// SPDX-License-Identifier: Apache-2.0
// The collectives as tasks for the progress thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "libdist/progress.h"
#include "libdist/trace.h"
#include "libdist/transport/transport.h"
#include "libdist/types.h"

namespace dist::allreduce {

struct AllReduceOptions {
  std::span<std::byte> data;  ///< in place; must stay valid until the task has ended
  DType dtype = DType::f32;
  Rank rank = 0;
  int ranks = 1;
  std::uint64_t segment_bytes = 256 << 10;  ///< unit of pipelining; the same on every rank
  std::string label;  ///< what is exchanged, the head of every message: "ring: bucket 3"
  Channel channel = Channel::collective;
};

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
