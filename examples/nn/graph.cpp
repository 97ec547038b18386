// SPDX-License-Identifier: Apache-2.0
// Totals and orders of a Graph, and the initial values of its parameters.
#include "examples/nn/graph.h"

#include <array>
#include <numeric>

#include "examples/nn/random.h"

namespace nn {

std::string_view kind_of(const Layer& layer) {
  static constexpr std::array<std::string_view, std::variant_size_v<Layer>> kNames{
      "input", "conv",  "max_pool", "avg_pool", "global_avg_pool", "batch_norm",
      "relu",  "dense", "dropout",  "add",      "concat",          "softmax_loss"};
  return kNames[layer.index()];
}

std::uint64_t ParameterInfo::elements() const {
  return std::accumulate(dims.begin(), dims.end(), std::uint64_t{1},
                         [](std::uint64_t product, std::int64_t d) {
                           return product * static_cast<std::uint64_t>(d);
                         });
}

std::vector<std::size_t> Graph::backward_order() const {
  std::vector<std::size_t> order;
  order.reserve(parameters.size());
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    order.insert(order.end(), node->parameters.begin(), node->parameters.end());
  }
  return order;
}

std::vector<std::vector<std::size_t>> Graph::consumers() const {
  std::vector<std::vector<std::size_t>> readers(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::size_t input : nodes[i].inputs) {
      if (readers[input].empty() || readers[input].back() != i) readers[input].push_back(i);
    }
  }
  return readers;
}

std::uint64_t Graph::parameter_elements() const {
  std::uint64_t sum = 0;
  for (const ParameterInfo& parameter : parameters) sum += parameter.elements();
  return sum;
}

std::uint64_t Graph::activation_elements() const {
  std::uint64_t sum = 0;
  for (const Node& node : nodes) sum += static_cast<std::uint64_t>(node.shape.elements());
  return sum;
}

std::uint64_t Graph::flop_of(const Node& node) const {
  const auto outputs = static_cast<std::uint64_t>(node.shape.elements());
  if (const auto* conv = std::get_if<Conv>(&node.layer)) {
    const std::int64_t taps =
        shape_of_input(node).channels * conv->window.kernel_h * conv->window.kernel_w;
    return 2 * outputs * static_cast<std::uint64_t>(taps);
  }
  if (std::holds_alternative<Dense>(node.layer)) {
    return 2 * outputs * static_cast<std::uint64_t>(shape_of_input(node).elements());
  }
  return 0;
}

std::uint64_t Graph::forward_flop() const {
  std::uint64_t sum = 0;
  for (const Node& node : nodes) sum += flop_of(node);
  return sum;
}

std::vector<double> initial_values(const ParameterInfo& parameter, std::uint64_t seed) {
  std::vector<double> values(parameter.elements(), parameter.initial.value);
  if (parameter.initial.kind == Initial::Kind::constant) return values;
  const std::uint64_t stream = stream_of(parameter.name);
  const double scale = parameter.initial.value;
  if (parameter.initial.kind == Initial::Kind::uniform) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = scale * (2.0 * random_uniform(seed, stream, i) - 1.0);
    }
  } else {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = scale * random_normal(seed, stream, i);
    }
  }
  return values;
}

}  // namespace nn
