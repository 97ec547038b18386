// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cost.h"

#include <algorithm>

#include "examples/models/models.h"
#include "tests/support/catch.h"

namespace nn {
namespace {

NodeCost cost_at(const Graph& graph, const char* name) {
  const auto costs = train_costs(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].name == name) return costs[i];
  }
  FAIL("no node " << name);
  return {};
}

// A residual block on 4x4 images: 3 channels, then 8.
Graph block() {
  GraphBuilder g("block", {3, 4, 4});
  std::size_t x = g.conv("first", GraphBuilder::input(), {.out_channels = 8, .window = square(1)});
  x = g.relu("open", x);
  std::size_t y = g.conv("conv", x, {.out_channels = 8, .window = square(3, 1, 1)});
  y = g.batch_norm("norm", y);
  y = g.add("add", y, x);
  y = g.relu("close", y);
  y = g.max_pool("pool", y, square(2, 2));
  y = g.dense("fc", y, {.out = 10});
  g.softmax_loss("loss", y);
  return std::move(g).finish().value();
}

}  // namespace

TEST_CASE("a small graph costs what a hand counts") {
  const Graph graph = block();
  const std::uint64_t wide = 8 * 16;  // elements of 8 channels

  const NodeCost first = cost_at(graph, "first");
  CHECK(first.forward_flop == 2 * wide * 3);
  CHECK(first.backward_flop == first.forward_flop);  // the images need no gradient
  CHECK(first.forward_elements == 3 * 16 + wide);
  CHECK(first.backward_elements == 3 * 16 + wide);

  const NodeCost conv = cost_at(graph, "conv");
  CHECK(conv.forward_flop == 2 * wide * 8 * 9);
  CHECK(conv.backward_flop == 2 * conv.forward_flop);
  CHECK(conv.forward_elements == 2 * wide);
  CHECK(conv.backward_elements == 4 * wide);
  CHECK(conv.parameter_elements == 8 * 8 * 9);

  CHECK(cost_at(graph, "norm").forward_elements == 3 * wide);
  CHECK(cost_at(graph, "norm").backward_elements == 5 * wide);
  CHECK(cost_at(graph, "add").forward_elements == wide);  // the shortcut alone
  CHECK(cost_at(graph, "add").backward_elements == 0);
  CHECK(cost_at(graph, "close").forward_elements == 0);
  // "open" rides on "first", and two read it: one more gradient to add.
  CHECK(cost_at(graph, "open").forward_elements == 0);
  CHECK(cost_at(graph, "open").backward_elements == wide);
  CHECK(cost_at(graph, "pool").forward_elements == wide + wide / 4);
  CHECK(cost_at(graph, "fc").forward_flop == 2 * (wide / 4) * 10);
}

TEST_CASE("a layer whose input others read too is a kernel of its own") {
  GraphBuilder g("fork", {3, 4, 4});
  const std::size_t x =
      g.conv("conv", GraphBuilder::input(), {.out_channels = 8, .window = square(1)});
  const std::size_t y = g.relu("relu", x);
  g.softmax_loss("loss", g.global_avg_pool("pool", g.add("add", x, y)));
  const Graph graph = std::move(g).finish().value();
  CHECK(cost_at(graph, "relu").forward_elements == 2 * 128);
  CHECK(cost_at(graph, "relu").backward_elements == 2 * 128);
  CHECK(cost_at(graph, "add").forward_elements == 3 * 128);
}

TEST_CASE("the models' arithmetic is the published 6 x multiply-adds of the forward pass") {
  const std::vector<std::pair<const char*, double>> published = {{"resnet50", 24.7e9},
                                                                 {"resnet152", 69.4e9},
                                                                 {"vgg16", 92.8e9},
                                                                 {"vgg19", 117.8e9},
                                                                 {"inception_v4", 73.7e9}};
  for (const auto& [name, flop] : published) {
    INFO(name);
    const Graph graph = models::make_model(name).value();
    const NodeCost total = total_cost(train_costs(graph));
    const double counted = static_cast<double>(total.forward_flop + total.backward_flop);
    // Published numbers count a gradient of the images, which nobody computes.
    CHECK(counted < 1.005 * flop);
    CHECK(counted > 0.98 * flop);
    CHECK(total.parameter_elements == graph.parameter_elements());
    CHECK(total.forward_elements > graph.activation_elements());
  }
}

}  // namespace nn
