// SPDX-License-Identifier: Apache-2.0
// Where activations and their gradients live during a train step: one buffer, in which tensors
// whose lifetimes do not meet share bytes. Pure functions; every backend uses them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "examples/nn/graph.h"
#include "libdist/status.h"

namespace nn {

/// A buffer and the first and last moment (inclusive) at which somebody reads or writes it.
struct Lifetime {
  std::uint64_t bytes = 0;
  std::int64_t first = 0;
  std::int64_t last = 0;
};

struct MemoryPlan {
  std::vector<std::uint64_t> offsets;  ///< Bytes, one a lifetime, multiples of the alignment.
  std::uint64_t total_bytes = 0;
};

/// Offsets such that buffers alive at the same moment never overlap. Greedy by size, largest first,
/// each at the lowest free place; deterministic.
MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes, std::uint64_t alignment_bytes = 64);

/// Which buffer each tensor of a train step lies in. Several tensors share one buffer where an
/// operation may work in place: Relu and Dropout on the only reader of a tensor; the gradient of
/// Add with that of its first single-reader input.
struct TrainingBuffers {
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::vector<std::size_t> activation;  ///< Buffer of each node's output.
  std::vector<std::size_t> gradient;    ///< Buffer of the loss's gradient by each node's output;
                                        ///< kNone for Input and SoftmaxLoss, which have none.
  std::vector<Lifetime> lifetimes;      ///< One a buffer.

  bool in_place(const Node& node, std::size_t index) const {
    return activation[node.inputs[0]] == activation[index];
  }
};

/// Node i of n runs forward at moment i and backward at moment 2 n - 1 - i. Kept until its readers'
/// backward: the input of Conv, Dense, BatchNorm, MaxPool; until its own backward: the output of
/// Relu and SoftmaxLoss (probabilities). `node_bytes`: bytes of each node's output for the whole
/// batch, in the backend's layout; a shared buffer takes the largest of its tensors. A gradient
/// takes as much as its activation.
TrainingBuffers plan_buffers(const Graph& graph, const std::vector<std::uint64_t>& node_bytes);

/// Ok when this machine has `needed_bytes` to give (MemAvailable of /proc/meminfo, or cannot say);
/// otherwise an error that names both numbers and what to do about it.
dist::Status fits_in_memory(std::uint64_t needed_bytes, std::string_view what);

}  // namespace nn
