// SPDX-License-Identifier: Apache-2.0
// The oneDNN backend against ref, layer by layer over shapes that fill no vector; plain values, and
// the order of ready().
#include <cmath>
#include <functional>

#include "examples/data/synthetic.h"
#include "examples/models/models.h"
#include "tests/examples/replica.h"
#include "tests/support/catch.h"

using namespace nn;

namespace {

constexpr std::int64_t kBatch = 3;

// A small graph around one kind of layer: something before it, so that it has an input gradient to
// compute, and a classifier after it.
Graph around(Shape input, const std::function<std::size_t(GraphBuilder&, std::size_t)>& layer) {
  GraphBuilder g("around", input);
  const auto before = g.conv("before", GraphBuilder::input(), {6, square(3, 1, 1), true});
  const auto tested = layer(g, before);
  g.softmax_loss("loss", g.dense("classifier", tested, {5}));
  return std::move(g).finish().value();
}

double relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-20));
}

test::Replica replica_of(std::string_view backend, const Graph& graph) {
  auto made = test::try_replica(backend, graph, {.batch = kBatch, .dropout_seed = 3});
  if (!made.ok() && made.status().code() == dist::ErrorCode::unavailable) {
    dist::test::skip(made.status().message());
  }
  auto replica = std::move(made).value();
  replica->initialize(7);
  return replica;
}

void check_against_ref(const Graph& graph, std::uint64_t step = 0) {
  const auto samples =
      data::Synthetic(data::Kind::random, graph.input_shape(), graph.classes(), 4).batch(0, kBatch);
  const test::Replica ref = replica_of("ref", graph);
  const test::Replica onednn = replica_of("onednn", graph);
  ref->resume_at(step);
  onednn->resume_at(step);
  for (const Mode mode : {Mode::train, Mode::evaluate, Mode::train}) {
    const double expected = ref->forward(samples.batch(), mode);
    CHECK(onednn->forward(samples.batch(), mode) == dist::test::Approx(expected).epsilon(1e-5));
    CHECK(onednn->accuracy() == ref->accuracy());
  }
  ref->backward([](std::size_t) {});
  std::size_t next = 0;
  onednn->backward([&](std::size_t i) { CHECK(i == next++); });
  REQUIRE(next == onednn->parameters().size());
  for (std::size_t i = 0; i < next; ++i) {
    INFO(onednn->parameters()[i].name);
    CHECK(onednn->parameters()[i].name == ref->parameters()[i].name);
    CHECK(onednn->plain_parameter(i) == ref->plain_parameter(i));
    CHECK(relative_difference(onednn->plain_gradient(i), ref->plain_gradient(i)) < 1e-4);
  }
}

}  // namespace

TEST_CASE("a forward pass awaits each parameter once, before it reads it") {
  const Graph graph = models::make_model("resnet50", {.image = 32}).value();
  const auto samples =
      data::Synthetic(data::Kind::random, graph.input_shape(), graph.classes(), 4).batch(0, kBatch);
  const test::Replica replica = replica_of("onednn", graph);
  const double expected = replica->forward(samples.batch(), Mode::train);
  std::vector<int> calls;
  CHECK(test::forward_awaiting(*replica.network, samples.batch(), &calls) == expected);
  CHECK(calls == std::vector<int>(replica->parameters().size(), 1));
}

TEST_CASE("convolutions agree with ref") {
  const Window window = GENERATE(square(1), square(1, 2), square(3, 1, 1), square(3, 2),
                                 square(5, 2, 2), Window{1, 7, 1, 0, 3}, Window{7, 1, 1, 3, 0});
  const std::int64_t channels = GENERATE(1, 16, 21);
  INFO(window.kernel_h << "x" << window.kernel_w << " stride " << window.stride << ", "
                       << channels);
  check_against_ref(around({3, 11, 9}, [&](GraphBuilder& g, std::size_t x) {
    return g.relu("relu", g.conv("conv", x, {channels, window, true}));
  }));
}

TEST_CASE("pooling agrees with ref") {
  check_against_ref(around({3, 11, 9}, [](GraphBuilder& g, std::size_t x) {
    return g.max_pool("pool", x, square(3, 2, 1));
  }));
  check_against_ref(around({3, 11, 9}, [](GraphBuilder& g, std::size_t x) {
    return g.avg_pool("pool", x, square(3, 1, 1));
  }));
  check_against_ref(around(
      {3, 11, 9}, [](GraphBuilder& g, std::size_t x) { return g.global_avg_pool("pool", x); }));
}

// The ReLU between gives the bias before it a gradient; straight before a batch norm it has none.
TEST_CASE("batch norm, with and without ReLU, agrees with ref") {
  check_against_ref(around({3, 8, 7}, [](GraphBuilder& g, std::size_t x) {
    return g.batch_norm("norm", g.relu("between", x));
  }));
  check_against_ref(around({3, 8, 7}, [](GraphBuilder& g, std::size_t x) {
    return g.relu("relu", g.batch_norm("norm", g.relu("between", x)));
  }));
}

TEST_CASE("joins agree with ref") {
  check_against_ref(around({3, 8, 7}, [](GraphBuilder& g, std::size_t x) {
    return g.relu("relu", g.add("add", g.conv("side", x, {6, square(3, 1, 1)}), x));
  }));
  check_against_ref(around({3, 8, 7}, [](GraphBuilder& g, std::size_t x) {
    return g.concat("concat",
                    {g.conv("a", x, {5, square(1)}), x, g.conv("b", x, {17, square(3, 1, 1)})});
  }));
}

TEST_CASE("dropout drops the same elements as ref, also resumed, and dense agrees") {
  const Graph graph = around({3, 8, 7}, [](GraphBuilder& g, std::size_t x) {
    return g.dropout("dropout", g.relu("relu", g.dense("dense", x, {33})), 0.4);
  });
  check_against_ref(graph);
  check_against_ref(graph, 7);
}

TEST_CASE("plain values survive the way through the blocked layout") {
  const Graph graph = models::make_model("small_cnn").value();
  const test::Replica replica = replica_of("onednn", graph);
  for (std::size_t i = 0; i < replica->parameters().size(); ++i) {
    std::vector<double> values(replica->plain_parameter(i).size());
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<double>(k % 1000);
    replica->set_plain_parameter(i, values);
    CHECK(replica->plain_parameter(i) == values);
  }
}
