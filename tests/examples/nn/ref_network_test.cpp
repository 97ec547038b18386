// SPDX-License-Identifier: Apache-2.0
// The reference network as a whole: order and finality of ready(), evaluation, batches, bad input.
#include <cmath>

#include "examples/data/synthetic.h"
#include "examples/models/models.h"
#include "tests/examples/replica.h"
#include "tests/support/catch.h"

using namespace nn;

namespace {

Graph small_cnn() { return models::make_model("small_cnn").value(); }

data::Samples samples_for(const Graph& graph, std::int64_t batch, std::int64_t worker = 0,
                          std::int64_t workers = 1) {
  return data::Synthetic(data::Kind::learnable, graph.input_shape(), graph.classes(), 4)
      .batch(0, batch, worker, workers);
}

std::vector<std::vector<double>> gradients_of(const test::Replica& replica,
                                              const data::Samples& samples) {
  replica->forward(samples.batch(), Mode::train);
  replica->backward([](std::size_t) {});
  std::vector<std::vector<double>> all;
  for (std::size_t i = 0; i < replica->parameters().size(); ++i) {
    all.push_back(replica->plain_gradient(i));
  }
  return all;
}

}  // namespace

TEST_CASE("a forward pass awaits each parameter once, before it reads it") {
  const Graph graph = small_cnn();
  const test::Replica replica = test::make_replica("ref", graph, {.batch = 4});
  replica->initialize(1);
  const data::Samples samples = samples_for(graph, 4);
  const double expected = replica->forward(samples.batch(), Mode::train);
  std::vector<int> calls;
  CHECK(test::forward_awaiting(*replica.network, samples.batch(), &calls) == expected);
  CHECK(calls == std::vector<int>(replica->parameters().size(), 1));
}

TEST_CASE("accuracy is the share of labels that were the most probable class") {
  const Graph graph = small_cnn();
  const test::Replica replica = test::make_replica("ref", graph, {.batch = 4});
  replica->initialize(1);
  const data::Samples samples = samples_for(graph, 4);
  std::vector<std::int32_t> labels(4, 0);
  double all = 0;
  for (std::int32_t label = 0; label < 10; ++label) {
    labels.assign(4, label);
    replica->forward({samples.images, labels}, Mode::evaluate);
    all += replica->accuracy();
  }
  CHECK(all == 1);  // each image has one most probable class
  // All logits equal: the first class is the most probable one.
  for (std::size_t p = 0; p < replica->parameters().size(); ++p) {
    replica->set_plain_parameter(p, std::vector<double>(replica->plain_parameter(p).size(), 0));
  }
  labels = {0, 1, 0, 2};
  replica->forward({samples.images, labels}, Mode::evaluate);
  CHECK(replica->accuracy() == 0.5);
}

TEST_CASE("ready is called once a parameter, ascending, with the final gradient") {
  const Graph graph = small_cnn();
  const test::Replica replica = test::make_replica("ref", graph, {.batch = 4});
  replica->initialize(1);
  replica->forward(samples_for(graph, 4).batch(), Mode::train);
  std::vector<std::vector<double>> seen;
  replica->backward([&](std::size_t i) {
    CHECK(i == seen.size());
    seen.push_back(replica->plain_gradient(i));
  });
  REQUIRE(seen.size() == replica->parameters().size());
  const std::vector<std::size_t> order = graph.backward_order();
  for (std::size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i] == replica->plain_gradient(i));
    CHECK(replica->parameters()[i].name == graph.parameters[order[i]].name);
  }
}

TEST_CASE("backward overwrites: the same batch twice gives the same gradient") {
  const Graph graph = small_cnn();
  const test::Replica replica = test::make_replica("ref", graph, {.batch = 4});
  replica->initialize(1);
  const data::Samples samples = samples_for(graph, 4);
  CHECK(gradients_of(replica, samples) == gradients_of(replica, samples));
}

TEST_CASE("the mean over workers' gradients is the gradient of the joined batch") {
  const Graph graph = small_cnn();
  const auto replica_of = [&](std::int64_t batch) {
    auto replica = test::make_replica("ref", graph, {.batch = batch, .dtype = dist::DType::f64});
    replica->initialize(1);
    return replica;
  };
  const auto whole = gradients_of(replica_of(6), samples_for(graph, 6));
  auto mean = gradients_of(replica_of(2), samples_for(graph, 2, 0, 3));
  for (const int worker : {1, 2}) {
    const auto part = gradients_of(replica_of(2), samples_for(graph, 2, worker, 3));
    for (std::size_t i = 0; i < mean.size(); ++i) {
      for (std::size_t k = 0; k < mean[i].size(); ++k) mean[i][k] += part[i][k];
    }
  }
  double worst = 0;
  for (std::size_t i = 0; i < mean.size(); ++i) {
    for (std::size_t k = 0; k < mean[i].size(); ++k) {
      worst = std::max(worst, std::abs(mean[i][k] / 3 - whole[i][k]));
    }
  }
  CHECK(worst <= 1e-13);
}

TEST_CASE("initialize writes the graph's values in backward order") {
  const Graph graph = small_cnn();
  const test::Replica replica = test::make_replica("ref", graph, {.dtype = dist::DType::f64});
  replica->initialize(9);
  const std::vector<std::size_t> order = graph.backward_order();
  for (std::size_t i = 0; i < order.size(); ++i) {
    CHECK(replica->plain_parameter(i) == initial_values(graph.parameters[order[i]], 9));
  }
}

TEST_CASE("dropout: off to evaluate, another mask each step and seed, scaled to keep the mean") {
  GraphBuilder g("drop", {1, 100, 100});
  std::size_t x = g.dropout("drop", GraphBuilder::input(), 0.25);
  x = g.dense("sum", x, {.out = 2, .bias = false});
  g.softmax_loss("loss", x);
  const Graph graph = std::move(g).finish().value();
  const std::vector<float> ones(10000, 1.0F);
  const std::vector<std::int32_t> labels{0};

  const auto replica_of = [&](std::uint64_t seed) {
    auto replica = test::make_replica("ref", graph, {.batch = 1, .dropout_seed = seed});
    // logits (sum of x / 10000, 0)
    std::vector<double> weight(20000, 0.0);
    std::fill_n(weight.begin(), 10000, 1e-4);
    replica->set_plain_parameter(0, weight);
    return replica;
  };
  const auto mean_of = [](double loss) { return -std::log(std::expm1(loss)); };  // of x
  const test::Replica replica = replica_of(1);
  CHECK(mean_of(replica->forward({ones, labels}, Mode::evaluate)) ==
        dist::test::Approx(1).epsilon(1e-4));
  const double first = replica->forward({ones, labels}, Mode::train);
  const double second = replica->forward({ones, labels}, Mode::train);
  CHECK(mean_of(first) == dist::test::Approx(1).epsilon(0.05));
  CHECK(mean_of(first) != dist::test::Approx(1).epsilon(1e-4));
  CHECK(first != second);
  CHECK(replica_of(1)->forward({ones, labels}, Mode::train) == first);
  CHECK(replica_of(2)->forward({ones, labels}, Mode::train) != first);
  const test::Replica resumed = replica_of(1);
  resumed->resume_at(1);
  CHECK(resumed->forward({ones, labels}, Mode::train) == second);
}

TEST_CASE("max pooling gives the gradient to the first of equal pixels") {
  GraphBuilder g("tie", {2, 1, 2});
  std::size_t x = g.conv("sum", GraphBuilder::input(), {.out_channels = 1});
  x = g.max_pool("pool", x, {1, 2, 1, 0, 0});
  g.softmax_loss("loss", g.dense("fc", x, {.out = 2, .bias = false}));
  const test::Replica replica =
      test::make_replica("ref", std::move(g).finish().value(), {.batch = 1});
  REQUIRE(replica->parameters()[1].name == "sum.weight");
  replica->set_plain_parameter(0, std::vector<double>{1, 0});
  replica->set_plain_parameter(1, std::vector<double>{1, 1});
  // The first pixel is (1, 0), the second (0, 1): both sum to 1.
  const std::vector<float> image{1, 0, 0, 1};
  const std::vector<std::int32_t> label{1};
  replica->forward({image, label}, Mode::train);
  replica->backward([](std::size_t) {});
  const std::vector<double> gradient = replica->plain_gradient(1);
  CHECK(gradient[0] > 0.1);
  CHECK(gradient[1] == 0);
}

TEST_CASE("layer times are there when asked for") {
  const Graph graph = small_cnn();
  const test::Replica replica = test::make_replica("ref", graph, {.batch = 2, .timing = true});
  replica->initialize(1);
  gradients_of(replica, samples_for(graph, 2));
  const std::vector<LayerTime> times = replica->layer_times();
  REQUIRE(times.size() == graph.nodes.size());
  CHECK(times[1].name == "conv1");
  CHECK(times[1].forward_ns > 0);
  CHECK(times[1].backward_ns > 0);
  CHECK(test::make_replica("ref", graph, {.batch = 2})->layer_times().empty());
}

TEST_CASE("layout hash tells element types and models apart") {
  const Graph graph = small_cnn();
  const Graph other = models::make_model("small_cnn", {.classes = 11}).value();
  const auto hash = [](const Graph& g, dist::DType dtype) {
    return make_network("ref", g, {.batch = 1, .dtype = dtype}).value()->layout_hash();
  };
  CHECK(hash(graph, dist::DType::f32) == hash(graph, dist::DType::f32));
  CHECK(hash(graph, dist::DType::f32) != hash(graph, dist::DType::f64));
  CHECK(hash(graph, dist::DType::f32) != hash(other, dist::DType::f32));
}

TEST_CASE("what cannot be made is told") {
  const Graph graph = small_cnn();
  const auto unknown = make_network("abacus", graph, {});
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().code() == dist::ErrorCode::invalid_argument);
  CHECK(unknown.status().message().find("ref, onednn, cudnn, replay") != std::string::npos);

  CHECK_FALSE(make_network("ref", graph, {.batch = 0}).ok());
  CHECK_FALSE(make_network("ref", graph, {.batch = -4}).ok());
  for (const auto* backend : {"ref", "onednn", "replay"}) {
    const auto half = make_network(backend, graph, {.batch = 1, .dtype = dist::DType::f16});
    REQUIRE_FALSE(half.ok());
    CHECK(half.status().message().find("f32 or f64, not f16") != std::string::npos);
  }

  const auto vgg = models::make_model("vgg16");
  REQUIRE_OK(vgg);
  const auto huge = make_network("ref", *vgg, {.batch = 1 << 20});
  REQUIRE_FALSE(huge.ok());
  CHECK(huge.status().code() == dist::ErrorCode::resource);
  CHECK(huge.status().message().find("--batch") != std::string::npos);

  auto network = make_network("ref", graph, {.batch = 1}).value();
  CHECK_FALSE(network->bind({}, {}).ok());
}

TEST_CASE("bind refuses a span of another size") {
  const Graph graph = small_cnn();
  auto network = make_network("ref", graph, {.batch = 1}).value();
  auto arena = dist::Arena::create(network->parameters());
  REQUIRE_OK(arena);
  std::vector<std::span<std::byte>> spans;
  for (std::size_t i = 0; i < arena->parameter_count(); ++i) {
    spans.push_back(arena->parameters(arena->range(i)));
  }
  auto wrong = spans;
  wrong.back() = wrong.back().first(4);
  CHECK_FALSE(network->bind(spans, wrong).ok());
}
