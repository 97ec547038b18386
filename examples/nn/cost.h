// SPDX-License-Identifier: Apache-2.0
// What a train step must do at least: arithmetic, and activations through memory. Pure; for
// comparing a measured step with what a machine could do.
#pragma once

#include <cstdint>
#include <vector>

#include "examples/nn/graph.h"

namespace nn {

/// Of one node and one image, but for parameter_elements.
struct NodeCost {
  std::uint64_t forward_flop = 0;  ///< 2 per multiply-add of convolution and dense layers, else 0
  /// As much again for the weights' gradient, and for the input's where the input has one.
  std::uint64_t backward_flop = 0;
  std::uint64_t forward_elements = 0;  ///< read and written, each pass over a tensor counted
  std::uint64_t backward_elements = 0;
  std::uint64_t parameter_elements = 0;  ///< of the layer, once a batch and pass
};

/// One a node of the graph. Every layer is counted as its own kernel, with these exceptions: Relu,
/// Dropout and Add ride along with the layer before them where nobody else reads that one's output
/// (Add then reads its other input alone), and Concat's inputs are written in place. A batch norm
/// reads its input twice, forward for the statistics first, backward likewise with the gradient. A
/// tensor with r readers has r - 1 gradients read back to be added.
std::vector<NodeCost> train_costs(const Graph& graph);

/// The sum over all nodes.
NodeCost total_cost(const std::vector<NodeCost>& costs);

}  // namespace nn
