// SPDX-License-Identifier: Apache-2.0
// Shape inference, parameters, orders, totals, and what the builder refuses.
#include "examples/nn/graph.h"

#include <cmath>

#include "tests/support/catch.h"

using namespace nn;

namespace {

// conv -> relu -> (conv a | pool) -> concat -> dense -> loss
Graph branched() {
  GraphBuilder g("branched", {3, 9, 8});
  std::size_t x = g.conv("stem", GraphBuilder::input(),
                         {.out_channels = 4, .window = square(3, 2, 1), .bias = true});
  x = g.relu("relu", x);
  const std::size_t a = g.conv("a", x, {.out_channels = 2, .window = square(3, 2)});
  const std::size_t b = g.max_pool("b", x, square(3, 2));
  x = g.concat("join", {a, b});
  x = g.batch_norm("norm", x);
  x = g.dense("fc", x, {.out = 5});
  g.softmax_loss("loss", x);
  return std::move(g).finish().value();
}

std::string failure(GraphBuilder&& g) {
  const auto graph = std::move(g).finish();
  REQUIRE_FALSE(graph.ok());
  CHECK(graph.status().code() == dist::ErrorCode::invalid_argument);
  return graph.status().message();
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("shapes follow the windows, rounding down") {
  const Graph graph = branched();
  CHECK(graph.nodes[1].shape == Shape{4, 5, 4});
  CHECK(graph.nodes[3].shape == Shape{2, 2, 1});
  CHECK(graph.nodes[4].shape == Shape{4, 2, 1});
  CHECK(graph.nodes[5].shape == Shape{6, 2, 1});
  CHECK(graph.nodes[7].shape == Shape{5, 1, 1});
  CHECK(graph.classes() == 5);
  CHECK(graph.input_shape() == Shape{3, 9, 8});
}

TEST_CASE("parameters have plain shapes, names and starts") {
  const Graph graph = branched();
  REQUIRE(graph.parameters.size() == 7);
  CHECK(graph.parameters[0].name == "stem.weight");
  CHECK(graph.parameters[0].dims == std::vector<std::int64_t>{4, 3, 3, 3});
  CHECK(graph.parameters[0].initial.kind == Initial::Kind::normal);
  CHECK(graph.parameters[0].initial.value == std::sqrt(2.0 / 27));
  CHECK(graph.parameters[1].name == "stem.bias");
  CHECK(graph.parameters[3].name == "norm.gamma");
  CHECK(graph.parameters[3].initial.value == 1);
  CHECK(graph.parameters[4].initial.value == 0);
  CHECK(graph.parameters[5].dims == std::vector<std::int64_t>{5, 12});
  CHECK(graph.parameters[5].initial.value == std::sqrt(6.0 / 17));
  CHECK(graph.parameter_elements() == 108 + 4 + 72 + 6 + 6 + 60 + 5);
}

TEST_CASE("backward order: nodes in reverse, weight before bias") {
  const Graph graph = branched();
  CHECK(graph.backward_order() == std::vector<std::size_t>{5, 6, 3, 4, 2, 0, 1});
}

TEST_CASE("work and activations of one image") {
  const Graph graph = branched();
  const std::uint64_t stem = 2 * 80 * 27;
  const std::uint64_t a = 2 * 4 * 36;
  const std::uint64_t fc = 2 * 5 * 12;
  CHECK(graph.forward_flop() == stem + a + fc);
  CHECK(graph.activation_elements() == 216 + 80 + 80 + 4 + 8 + 12 + 12 + 5 + 5);
  CHECK(graph.consumers()[2] == std::vector<std::size_t>{3, 4});
}

TEST_CASE("initial values depend on seed and name only, and have the asked spread") {
  ParameterInfo info{"layer.weight", {100, 100}, {Initial::Kind::normal, 0.5}, 0};
  const std::vector<double> values = initial_values(info, 1);
  CHECK(values == initial_values(info, 1));
  CHECK(values != initial_values(info, 2));
  double sum = 0;
  double squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  CHECK(std::abs(sum / 10000) < 0.025);  // five standard errors
  CHECK(std::abs(squares / 10000 - 0.25) < 0.02);

  info.initial = {Initial::Kind::uniform, 0.25};
  for (const double value : initial_values(info, 1)) REQUIRE(std::abs(value) <= 0.25);
  info.name = "other.weight";
  CHECK(initial_values(info, 1) != values);
  info.initial = {Initial::Kind::constant, 3};
  CHECK(initial_values(info, 1) == std::vector<double>(10000, 3.0));
}

TEST_CASE("the first mistake is told, with the node's name") {
  GraphBuilder small("m", {3, 4, 4});
  const std::size_t gone =
      small.conv("big", GraphBuilder::input(), {.out_channels = 2, .window = square(5)});
  small.softmax_loss("loss", small.dense("fc", gone, {.out = 2}));
  const std::string message = failure(std::move(small));
  CHECK(has(message, "too small"));
  CHECK(has(message, "big"));
  CHECK(has(message, "model m with input 3x4x4"));

  GraphBuilder twice("m", {3, 4, 4});
  twice.relu("same", twice.relu("same", 0));
  CHECK(has(failure(std::move(twice)), "two nodes are named same"));

  GraphBuilder unequal("m", {3, 4, 4});
  unequal.add("sum", 0, unequal.conv("c", 0, {.out_channels = 2}));
  CHECK(has(failure(std::move(unequal)), "adds 2x4x4 to 3x4x4"));

  GraphBuilder ragged("m", {3, 4, 4});
  ragged.concat("join", {0, ragged.max_pool("p", 0, square(2, 2))});
  CHECK(has(failure(std::move(ragged)), "joins 3x2x2 to 3x4x4"));

  GraphBuilder itself("m", {3, 4, 4});
  itself.add("sum", 0, 0);
  CHECK(has(failure(std::move(itself)), "to itself"));

  GraphBuilder nowhere("m", {3, 4, 4});
  nowhere.relu("r", 7);
  CHECK(has(failure(std::move(nowhere)), "does not exist"));

  GraphBuilder rate("m", {3, 4, 4});
  rate.dropout("d", 0, 1.0);
  CHECK(has(failure(std::move(rate)), "dropout rate 1"));

  GraphBuilder padding("m", {3, 4, 4});
  padding.max_pool("p", 0, square(2, 2, 2));
  CHECK(has(failure(std::move(padding)), "nothing but padding"));

  GraphBuilder dangling("m", {3, 4, 4});
  const std::size_t used = dangling.dense("fc", 0, {.out = 2});
  dangling.relu("unread", used);
  dangling.softmax_loss("loss", used);
  CHECK(has(failure(std::move(dangling)), "nobody reads node unread"));

  CHECK(has(failure(GraphBuilder("m", {3, 4, 4})), "softmax_loss"));
  CHECK(has(failure(GraphBuilder("m", {0, 4, 4})), "no elements"));
}
