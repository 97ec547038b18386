// SPDX-License-Identifier: Apache-2.0
// The table that --describe prints.
#include <algorithm>

#include <fmt/format.h>

#include "examples/models/models.h"

namespace nn::models {

std::string describe(const Graph& graph) {
  const Shape& input = graph.input_shape();
  std::string text =
      fmt::format("{}, input {}x{}x{}, {} classes\n{}\n\n", graph.name, input.channels,
                  input.height, input.width, graph.classes(), graph.notes);
  std::size_t width = 5;
  for (const Node& node : graph.nodes) width = std::max(width, node.name.size());
  text += fmt::format("{:<{}}  {:<15}  {:>14}  {:>12}  {:>10}\n", "layer", width, "kind", "output",
                      "parameters", "MFLOP");
  for (const Node& node : graph.nodes) {
    std::uint64_t parameters = 0;
    for (const std::size_t p : node.parameters) parameters += graph.parameters[p].elements();
    text += fmt::format(
        "{:<{}}  {:<15}  {:>14}  {:>12}  {:>10.2f}\n", node.name, width, kind_of(node.layer),
        fmt::format("{}x{}x{}", node.shape.channels, node.shape.height, node.shape.width),
        parameters, static_cast<double>(graph.flop_of(node)) / 1e6);
  }
  text += fmt::format(
      "\ntotal: {} parameters in {} tensors ({:.1f} MB as f32), {:.3f} GFLOP forward per image "
      "(2 per multiply-add), {:.2f} M activation elements per image\n",
      graph.parameter_elements(), graph.parameters.size(),
      static_cast<double>(graph.parameter_elements()) * 4 / 1e6,
      static_cast<double>(graph.forward_flop()) / 1e9,
      static_cast<double>(graph.activation_elements()) / 1e6);
  return text;
}

}  // namespace nn::models
