// SPDX-License-Identifier: Apache-2.0
// Shape inference and its complaints; the shapes of parameters and how they start.
#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "examples/nn/graph.h"

namespace nn {
namespace {

Initial initial_of(Scheme scheme, std::int64_t fan_in, std::int64_t fan_out) {
  switch (scheme) {
    case Scheme::glorot_uniform:
      return {Initial::Kind::uniform, std::sqrt(6.0 / static_cast<double>(fan_in + fan_out))};
    case Scheme::he_normal:
      return {Initial::Kind::normal, std::sqrt(2.0 / static_cast<double>(fan_in))};
    case Scheme::small_normal:
      return {Initial::Kind::normal, 0.01};
  }
  return {};
}

constexpr Initial kZero{Initial::Kind::constant, 0.0};
constexpr Initial kOne{Initial::Kind::constant, 1.0};

std::string text_of(const Shape& s) {
  return fmt::format("{}x{}x{}", s.channels, s.height, s.width);
}

}  // namespace

GraphBuilder::GraphBuilder(std::string model, Shape input) {
  graph_.name = std::move(model);
  graph_.nodes.push_back({"input", Input{}, {}, input, {}});
  if (input.channels < 1 || input.height < 1 || input.width < 1) {
    fail(fmt::format("input {} has no elements", text_of(input)));
  }
}

void GraphBuilder::fail(std::string message) {
  if (!status_.ok()) return;
  status_ = dist::Status::invalid_argument(fmt::format("model {} with input {}: {}", graph_.name,
                                                       text_of(graph_.input_shape()), message));
}

// Adds the node with an empty shape; once something failed, the node is only a place holder.
std::size_t GraphBuilder::append(std::string name, Layer layer, std::vector<std::size_t> inputs) {
  const bool known = std::all_of(inputs.begin(), inputs.end(),
                                 [&](std::size_t i) { return i < graph_.nodes.size(); });
  if (!known) {
    fail(fmt::format("node {} reads a node that does not exist", name));
    inputs.assign(inputs.size(), 0);
  }
  if (std::any_of(graph_.nodes.begin(), graph_.nodes.end(),
                  [&](const Node& node) { return node.name == name; })) {
    fail(fmt::format("two nodes are named {}", name));
  }
  const Shape shape = graph_.nodes[inputs[0]].shape;
  graph_.nodes.push_back({std::move(name), layer, std::move(inputs), shape, {}});
  return graph_.nodes.size() - 1;
}

void GraphBuilder::append_parameter(const char* role, std::vector<std::int64_t> dims,
                                    Initial initial) {
  Node& node = graph_.nodes.back();
  node.parameters.push_back(graph_.parameters.size());
  graph_.parameters.push_back(
      {node.name + "." + role, std::move(dims), initial, graph_.nodes.size() - 1});
}

Shape GraphBuilder::window_shape(const std::string& name, const Window& window, Shape in,
                                 std::int64_t channels) {
  if (window.kernel_h < 1 || window.kernel_w < 1 || window.stride < 1 || window.padding_h < 0 ||
      window.padding_w < 0 || channels < 1) {
    fail(fmt::format("node {} has an empty window, no stride, negative padding or no channels",
                     name));
    return in;
  }
  const std::int64_t room_h = in.height + 2 * window.padding_h - window.kernel_h;
  const std::int64_t room_w = in.width + 2 * window.padding_w - window.kernel_w;
  if (room_h < 0 || room_w < 0) {
    fail(
        fmt::format("the image is too small: at node {} only {} pixels are left for a {}x{} window",
                    name, text_of(in), window.kernel_h, window.kernel_w));
    return in;
  }
  return {channels, room_h / window.stride + 1, room_w / window.stride + 1};
}

std::size_t GraphBuilder::conv(std::string name, std::size_t x, Conv options) {
  const std::size_t i = append(std::move(name), options, {x});
  Node& node = graph_.nodes[i];
  const std::int64_t in = node.shape.channels;
  node.shape = window_shape(node.name, options.window, node.shape, options.out_channels);
  const std::int64_t taps = options.window.kernel_h * options.window.kernel_w;
  append_parameter("weight",
                   {options.out_channels, in, options.window.kernel_h, options.window.kernel_w},
                   initial_of(options.scheme, in * taps, options.out_channels * taps));
  if (options.bias) append_parameter("bias", {options.out_channels}, kZero);
  return i;
}

std::size_t GraphBuilder::max_pool(std::string name, std::size_t x, Window window) {
  const std::size_t i = append(std::move(name), MaxPool{window}, {x});
  Node& node = graph_.nodes[i];
  if (window.padding_h >= window.kernel_h || window.padding_w >= window.kernel_w) {
    fail(fmt::format("node {} has windows that hold nothing but padding", node.name));
  }
  node.shape = window_shape(node.name, window, node.shape, node.shape.channels);
  return i;
}

std::size_t GraphBuilder::avg_pool(std::string name, std::size_t x, Window window) {
  const std::size_t i = max_pool(std::move(name), x, window);
  graph_.nodes[i].layer = AvgPool{window};
  return i;
}

std::size_t GraphBuilder::global_avg_pool(std::string name, std::size_t x) {
  const std::size_t i = append(std::move(name), GlobalAvgPool{}, {x});
  graph_.nodes[i].shape.height = 1;
  graph_.nodes[i].shape.width = 1;
  return i;
}

std::size_t GraphBuilder::batch_norm(std::string name, std::size_t x, BatchNorm options) {
  const std::size_t i = append(std::move(name), options, {x});
  const std::int64_t channels = graph_.nodes[i].shape.channels;
  append_parameter("gamma", {channels}, kOne);
  append_parameter("beta", {channels}, kZero);
  return i;
}

std::size_t GraphBuilder::relu(std::string name, std::size_t x) {
  return append(std::move(name), Relu{}, {x});
}

std::size_t GraphBuilder::dense(std::string name, std::size_t x, Dense options) {
  const std::size_t i = append(std::move(name), options, {x});
  Node& node = graph_.nodes[i];
  if (options.out < 1) fail(fmt::format("node {} has no outputs", node.name));
  const std::int64_t in = node.shape.elements();
  node.shape = {options.out, 1, 1};
  append_parameter("weight", {options.out, in}, initial_of(options.scheme, in, options.out));
  if (options.bias) append_parameter("bias", {options.out}, kZero);
  return i;
}

std::size_t GraphBuilder::dropout(std::string name, std::size_t x, double rate) {
  if (!(rate >= 0 && rate < 1)) {
    fail(fmt::format("node {} has dropout rate {}; it must be in [0, 1)", name, rate));
  }
  return append(std::move(name), Dropout{rate}, {x});
}

std::size_t GraphBuilder::add(std::string name, std::size_t a, std::size_t b) {
  const std::size_t i = append(std::move(name), Add{}, {a, b});
  const Node& node = graph_.nodes[i];
  if (node.inputs[0] == node.inputs[1])
    fail(fmt::format("node {} adds a node to itself", node.name));
  const Shape& left = graph_.shape_of_input(node, 0);
  const Shape& right = graph_.shape_of_input(node, 1);
  if (!(left == right)) {
    fail(fmt::format("node {} adds {} to {}", node.name, text_of(right), text_of(left)));
  }
  return i;
}

std::size_t GraphBuilder::concat(std::string name, std::vector<std::size_t> inputs) {
  if (inputs.size() < 2) {
    fail(fmt::format("node {} joins fewer than two nodes", name));
    inputs.resize(2, input());
  }
  const std::size_t i = append(std::move(name), Concat{}, std::move(inputs));
  Node& node = graph_.nodes[i];
  for (std::size_t k = 1; k < node.inputs.size(); ++k) {
    const Shape& other = graph_.shape_of_input(node, k);
    if (other.height != node.shape.height || other.width != node.shape.width) {
      fail(fmt::format("node {} joins {} to {}", node.name, text_of(other), text_of(node.shape)));
    }
    node.shape.channels += other.channels;
  }
  auto sorted = node.inputs;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    fail(fmt::format("node {} joins a node to itself", node.name));
  }
  return i;
}

void GraphBuilder::softmax_loss(std::string name, std::size_t logits) {
  const std::size_t i = append(std::move(name), SoftmaxLoss{}, {logits});
  const Node& node = graph_.nodes[i];
  if (node.shape.height != 1 || node.shape.width != 1) {
    fail(fmt::format("node {} wants one value a class, not {}", node.name, text_of(node.shape)));
  }
}

dist::Result<Graph> GraphBuilder::finish() && {
  const auto readers = graph_.consumers();
  for (std::size_t i = 0; i + 1 < graph_.nodes.size(); ++i) {
    if (readers[i].empty()) fail(fmt::format("nobody reads node {}", graph_.nodes[i].name));
  }
  if (!std::holds_alternative<SoftmaxLoss>(graph_.nodes.back().layer)) {
    fail("the last node is not a softmax_loss");
  }
  if (!status_.ok()) return status_;
  return std::move(graph_);
}

}  // namespace nn
