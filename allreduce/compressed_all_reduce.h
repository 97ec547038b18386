// SPDX-License-Identifier: Apache-2.0
// An all-reduce that sends less than it sums. Each rank owns a chunk: the others send it their
// compressed parts of it, it adds them up in full precision and sends the compressed sum to all. So
// every value is rounded twice, however many ranks there are, where a ring would round it at each
// hop; and what is sent shrinks by the codec's ratio from 2(N-1)/N of the data, as in a ring.
#pragma once

#include <memory>
#include <span>

#include "allreduce/all_reduce.h"
#include "libdist/compress/compressor.h"

namespace dist::allreduce {

/// What the roundings of one exchange lost, to be added in the next one; one float an element of
/// the data, 0 at first. Empty: nothing is kept.
struct LostInRounding {
  std::span<float> gradients;  ///< of what this rank sends
  std::span<float> sums;       ///< of the sums it owns
};

/// Sums over all ranks; every rank gets the same bits, and the same on every run. `compressor` and
/// `saved` belong to the task while it runs and outlive it; to `saved` it adds the payload that
/// this rank did not have to send. options.segment_bytes and reduction are not used: a chunk is one
/// message, and the sum is the only reduction.
std::unique_ptr<Task> make_compressed_all_reduce(AllReduceOptions options, Compressor& compressor,
                                                 LostInRounding lost, Bytes& saved);

}  // namespace dist::allreduce
