// SPDX-License-Identifier: Apache-2.0
// What runs in a step on the GPU, and where its tensors lie: which nodes become one operation,
// which branches write straight into the tensor that joins them, how long each tensor lives, and
// where a pass may be cut. Pure functions of the graph.
//
// Tensors are NHWC with the channels padded to blocks of eight, so that 16 bytes hold eight half
// precision values of one pixel. The padding is zero in every tensor, parameter and gradient.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "examples/nn/graph.h"
#include "examples/nn/memory_plan.h"

namespace nn::cudnn {

inline constexpr std::size_t kNone = TrainingBuffers::kNone;
inline constexpr std::int64_t kChannelBlock = 8;

constexpr std::int64_t padded(std::int64_t channels) {
  return (channels + kChannelBlock - 1) / kChannelBlock * kChannelBlock;
}

/// Nodes that run as one operation: Conv, Dense, BatchNorm or Add with the ReLU that follows, and
/// BatchNorm with the Add and the ReLU that follow.
struct Group {
  std::size_t node = 0;    ///< Does the work, and has the parameters.
  std::size_t output = 0;  ///< The node whose output this makes: `node` or the last one absorbed.
  bool relu = false;
  std::size_t residual = kNone;     ///< What is added before the ReLU of a BatchNorm.
  std::vector<std::size_t> inputs;  ///< Nodes read: those of `node`, then the residual.
};

/// All nodes but Input in an order in which they can run: by `output`.
std::vector<Group> fuse(const Graph& graph);

/// A tensor within a buffer: pixel p begins at element channel + p * pitch.
struct Place {
  std::size_t buffer = kNone;
  std::int64_t channel = 0;
  std::int64_t pitch = 0;
};

/// Group g of n runs forward at moment g and backward at moment 2 n - 1 - g.
struct StepPlan {
  std::vector<Group> groups;
  /// By node; no buffer where a node was absorbed, and for the gradient by the images.
  std::vector<Place> activation, gradient;
  std::vector<Lifetime> lifetimes;  ///< One a buffer.
  /// By node: the groups that read it, ascending. The last of them is the first to write its
  /// gradient, the others add to it.
  std::vector<std::vector<std::size_t>> readers;

  std::int64_t forward_moment(std::size_t group) const { return static_cast<std::int64_t>(group); }
  std::int64_t backward_moment(std::size_t group) const {
    return static_cast<std::int64_t>(2 * groups.size() - 1 - group);
  }
};

/// An output lies within its reader, a Concat, where it has no other reader, the channels are
/// multiples of eight, and a kernel of this backend makes it: those can write with gaps.
StepPlan plan_step(const Graph& graph, std::int64_t batch, std::uint64_t element_bytes);

/// Ranges of groups, ascending, that a pass runs in one go; between them it may tell and ask for
/// parameters. At most `pieces` with about equally many parameter bytes, cut from the back.
std::vector<std::pair<std::size_t, std::size_t>> cut_pass(
    const std::vector<std::uint64_t>& parameter_bytes, int pieces);

}  // namespace nn::cudnn
