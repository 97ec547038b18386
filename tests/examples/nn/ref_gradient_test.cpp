// SPDX-License-Identifier: Apache-2.0
// Every reference layer against central differences in double, over odd shapes. The gradient by a
// layer's input is seen through the convolution before it.
#include <cmath>

#include "examples/nn/random.h"
#include "tests/examples/replica.h"
#include "tests/support/catch.h"

using namespace nn;

namespace {

constexpr std::int64_t kBatch = 3;
constexpr std::int64_t kClasses = 4;

std::vector<float> images_for(const Graph& graph) {
  std::vector<float> images(static_cast<std::size_t>(kBatch * graph.input_shape().elements()));
  for (std::size_t i = 0; i < images.size(); ++i) {
    images[i] = static_cast<float>(2 * random_uniform(5, 6, i) - 1);
  }
  return images;
}

// A new replica each time, so that dropout draws the mask of step 1.
struct Probe {
  explicit Probe(const Graph& g) : graph(g), images(images_for(g)), labels{1, 3, 0} {
    const auto order = graph.backward_order();
    for (const std::size_t p : order) {
      values.push_back(initial_values(graph.parameters[p], 11));
      // Biases, gammas and betas away from their special starts.
      for (std::size_t k = 0; k < values.back().size(); ++k) {
        values.back()[k] += 0.2 * random_uniform(12, p, k);
      }
    }
  }

  test::Replica replica() const {
    auto made = test::make_replica("ref", graph,
                                   {.batch = kBatch, .dtype = dist::DType::f64, .dropout_seed = 3});
    for (std::size_t i = 0; i < values.size(); ++i) made->set_plain_parameter(i, values[i]);
    return made;
  }
  double loss() const { return replica()->forward({images, labels}, Mode::train); }

  Graph graph;
  std::vector<float> images;
  std::vector<std::int32_t> labels;
  std::vector<std::vector<double>> values;
};

void check_all_gradients(GraphBuilder&& builder) {
  auto graph = std::move(builder).finish();
  REQUIRE_OK(graph);
  Probe probe(*graph);
  const test::Replica replica = probe.replica();
  replica->forward({probe.images, probe.labels}, Mode::train);
  replica->backward([](std::size_t) {});
  double largest = 0;
  for (std::size_t i = 0; i < probe.values.size(); ++i) {
    INFO("parameter " << replica->parameters()[i].name);
    const std::vector<double> gradient = replica->plain_gradient(i);
    REQUIRE(gradient.size() == probe.values[i].size());
    for (std::size_t k = 0; k < gradient.size(); ++k) {
      constexpr double kStep = 1e-5;
      double& value = probe.values[i][k];
      const double old = value;
      value = old + kStep;
      const double above = probe.loss();
      value = old - kStep;
      const double below = probe.loss();
      value = old;
      INFO("element " << k);
      CHECK(std::abs((above - below) / (2 * kStep) - gradient[k]) <= 2e-8);
      largest = std::max(largest, std::abs(gradient[k]));
    }
  }
  CHECK(largest > 1e-3);
}

// Input, a convolution, what `middle` adds, a classifier.
template <typename Middle>
GraphBuilder around(Middle middle, Shape input = {2, 7, 6}) {
  GraphBuilder g("probe", input);
  std::size_t x = g.conv("first", GraphBuilder::input(),
                         {.out_channels = 3, .window = square(3, 1, 1), .bias = true});
  x = middle(g, x);
  g.softmax_loss("loss", g.dense("classifier", x, {.out = kClasses}));
  return g;
}

}  // namespace

TEST_CASE("convolution: kernels, strides, paddings, leftovers") {
  const Conv options = GENERATE(Conv{.out_channels = 2, .window = square(1), .bias = true},
                                Conv{.out_channels = 4, .window = square(3, 1, 1), .bias = false},
                                Conv{.out_channels = 2, .window = square(3, 2), .bias = true},
                                Conv{.out_channels = 3, .window = square(1, 2), .bias = false},
                                Conv{.out_channels = 2, .window = {1, 5, 1, 0, 2}, .bias = true},
                                Conv{.out_channels = 2, .window = {5, 1, 3, 2, 0}, .bias = false},
                                Conv{.out_channels = 5, .window = square(5, 2, 3), .bias = true});
  check_all_gradients(
      around([&](GraphBuilder& g, std::size_t x) { return g.conv("conv", x, options); }));
}

TEST_CASE("pooling: overlap, padding, leftovers") {
  const Window window =
      GENERATE(square(2, 2), square(3, 2, 1), square(3, 1, 1), Window{2, 3, 2, 0, 1});
  check_all_gradients(
      around([&](GraphBuilder& g, std::size_t x) { return g.max_pool("pool", x, window); }));
  check_all_gradients(
      around([&](GraphBuilder& g, std::size_t x) { return g.avg_pool("pool", x, window); }));
}

TEST_CASE("global average pooling") {
  check_all_gradients(
      around([](GraphBuilder& g, std::size_t x) { return g.global_avg_pool("pool", x); }));
}

TEST_CASE("batch norm") {
  check_all_gradients(around(
      [](GraphBuilder& g, std::size_t x) { return g.batch_norm("norm", x, {.epsilon = 1e-2}); }));
}

TEST_CASE("ReLU, alone and over another ReLU") {
  check_all_gradients(
      around([](GraphBuilder& g, std::size_t x) { return g.relu("again", g.relu("relu", x)); }));
}

TEST_CASE("dense layers with and without bias") {
  check_all_gradients(around([](GraphBuilder& g, std::size_t x) {
    return g.dense("second", g.dense("hidden", x, {.out = 5}), {.out = 3, .bias = false});
  }));
}

TEST_CASE("dropout, in place over ReLU and over a convolution") {
  check_all_gradients(around([](GraphBuilder& g, std::size_t x) {
    x = g.dropout("first_drop", x, 0.25);
    return g.dropout("second_drop", g.relu("relu", x), 0.5);
  }));
}

TEST_CASE("residual blocks: a tensor with several readers") {
  check_all_gradients(around([](GraphBuilder& g, std::size_t x) {
    x = g.relu("relu", x);
    std::size_t y = g.conv("a", x, {.out_channels = 3, .window = square(3, 1, 1)});
    y = g.relu("relu_a", g.batch_norm("norm_a", y, {.epsilon = 1e-2}));
    x = g.relu("relu_sum", g.add("sum", y, x));
    y = g.conv("b", x, {.out_channels = 2, .window = square(1, 2)});
    const std::size_t z = g.conv("c", x, {.out_channels = 2, .window = square(3, 2, 1)});
    return g.add("sum2", y, z);
  }));
}

TEST_CASE("an Add of which only the second input has one reader") {
  check_all_gradients(around([](GraphBuilder& g, std::size_t x) {
    const std::size_t y = g.relu("relu", g.conv("a", x, {.out_channels = 3}));
    return g.add("late", x, g.add("early", x, y));
  }));
}

TEST_CASE("concatenation of branches that share a source") {
  check_all_gradients(around([](GraphBuilder& g, std::size_t x) {
    x = g.relu("relu", x);
    const std::size_t a = g.conv("a", x, {.out_channels = 2, .window = square(3, 2)});
    const std::size_t b = g.max_pool("b", x, square(3, 2));
    const std::size_t c = g.avg_pool("c", g.conv("d", x, {.out_channels = 1}), square(3, 2));
    return g.relu("out", g.concat("join", {a, b, c}));
  }));
}

TEST_CASE("matrix products longer than one block") {
  GraphBuilder g("wide", {5, 17, 19});
  std::size_t x = g.conv("first", GraphBuilder::input(),
                         {.out_channels = 2, .window = square(8, 9), .bias = true});
  x = g.conv("second", x, {.out_channels = 3, .window = square(2)});
  g.softmax_loss("loss", g.dense("classifier", x, {.out = kClasses}));
  check_all_gradients(std::move(g));
}
