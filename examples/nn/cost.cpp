// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cost.h"

namespace nn {
namespace {

std::uint64_t elements_of(const Node& node) {
  return static_cast<std::uint64_t>(node.shape.elements());
}

class Counter {
 public:
  explicit Counter(const Graph& graph) : graph_(graph), readers_(graph.consumers()) {}

  NodeCost cost(std::size_t index) const {
    const Node& node = graph_.nodes[index];
    NodeCost cost;
    for (const std::size_t p : node.parameters) {
      cost.parameter_elements += graph_.parameters[p].elements();
    }
    if (node.inputs.empty()) return cost;
    count_arithmetic(node, &cost);
    count_elements(node, &cost);
    const std::uint64_t readers = readers_[index].size();
    if (readers > 1) cost.backward_elements += (readers - 1) * elements_of(node);
    return cost;
  }

 private:
  bool input_has_gradient(const Node& node) const { return node.inputs[0] != 0; }

  // The layer before computes in the same kernel: its output goes nowhere else.
  bool rides_along(const Node& node) const {
    const std::size_t before = node.inputs[0];
    return before != 0 && readers_[before].size() == 1;
  }

  void count_arithmetic(const Node& node, NodeCost* cost) const {
    cost->forward_flop = graph_.flop_of(node);
    cost->backward_flop = cost->forward_flop * (input_has_gradient(node) ? 2 : 1);
  }

  void count_elements(const Node& node, NodeCost* cost) const {
    const std::uint64_t out = elements_of(node);
    const auto in = static_cast<std::uint64_t>(graph_.shape_of_input(node).elements());
    if (std::holds_alternative<Concat>(node.layer)) return;
    if (std::holds_alternative<Conv>(node.layer) || std::holds_alternative<Dense>(node.layer)) {
      cost->forward_elements = in + out;
      cost->backward_elements = in + out + (input_has_gradient(node) ? in + out : 0);
    } else if (std::holds_alternative<BatchNorm>(node.layer)) {
      cost->forward_elements = 2 * in + out;
      cost->backward_elements = 2 * (in + out) + in;
    } else if (std::holds_alternative<Add>(node.layer)) {
      cost->forward_elements = rides_along(node) ? in : 2 * in + out;
    } else if (std::holds_alternative<Relu>(node.layer) ||
               std::holds_alternative<Dropout>(node.layer)) {
      cost->forward_elements = rides_along(node) ? 0 : in + out;
      cost->backward_elements = rides_along(node) ? 0 : in + out;
    } else {
      cost->forward_elements = in + out;
      cost->backward_elements = in + out;
    }
  }

  const Graph& graph_;
  std::vector<std::vector<std::size_t>> readers_;
};

}  // namespace

std::vector<NodeCost> train_costs(const Graph& graph) {
  const Counter counter(graph);
  std::vector<NodeCost> costs;
  costs.reserve(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) costs.push_back(counter.cost(i));
  return costs;
}

NodeCost total_cost(const std::vector<NodeCost>& costs) {
  NodeCost total;
  for (const NodeCost& cost : costs) {
    total.forward_flop += cost.forward_flop;
    total.backward_flop += cost.backward_flop;
    total.forward_elements += cost.forward_elements;
    total.backward_elements += cost.backward_elements;
    total.parameter_elements += cost.parameter_elements;
  }
  return total;
}

}  // namespace nn
