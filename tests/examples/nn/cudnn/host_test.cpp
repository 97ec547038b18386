// SPDX-License-Identifier: Apache-2.0
// The cuDNN backend with its own kernels run on the host: every layer against ref, steps from
// recordings, loss scaling, and what a pass tells and asks in which order.
#include "examples/models/models.h"
#include "examples/nn/cudnn/failure.h"
#include "tests/examples/nn/cudnn/host_replica.h"
#include "tests/examples/nn/cudnn/layer_cases.h"
#include "tests/examples/nn/cudnn/loss_curve.h"

using namespace nn;
using namespace nn::cudnn::test;

namespace {

data::Samples samples_of(const Graph& graph, std::uint64_t step = 0) {
  return data::Synthetic(data::Kind::random, graph.input_shape(), graph.classes(), 4)
      .batch(step, kBatch);
}

Graph small_cnn() { return models::make_model("small_cnn", {.image = 8}).value(); }

std::vector<std::vector<double>> gradients_of(const HostReplica& replica) {
  std::vector<std::vector<double>> gradients;
  for (std::size_t i = 0; i < replica->parameters().size(); ++i) {
    gradients.push_back(replica->plain_gradient(i));
  }
  return gradients;
}

}  // namespace

TEST_CASE("every layer agrees with ref in f32") {
  for (const LayerCase& layer : layer_cases()) {
    INFO(layer.name);
    const auto replica = make_host_replica(layer.graph, {.batch = kBatch, .dropout_seed = 3});
    check_against_ref(layer.graph, *replica.network, {.step = 5});
  }
}

TEST_CASE("every layer agrees with ref in half precision") {
  const Precision precision = GENERATE(Precision::f16, Precision::bf16);
  const double factor = precision == Precision::f16 ? 1 : kBfloatFactor;
  for (const LayerCase& layer : layer_cases()) {
    if (layer.half_tolerance == 0) continue;
    INFO(layer.name << " in " << name_of(precision));
    const auto replica = make_host_replica(
        layer.graph, {.batch = kBatch, .dropout_seed = 3, .precision = precision});
    check_against_ref(layer.graph, *replica.network,
                      {.tolerance = layer.half_tolerance * factor, .half = true});
  }
}

TEST_CASE("a step from recordings is the step itself") {
  const Graph graph = small_cnn();
  const int segments = GENERATE(1, 3);
  const NetworkOptions options{.batch = kBatch, .precision = Precision::f16, .segments = segments};
  NetworkOptions plain = options;
  plain.capture = false;
  const auto recorded = make_host_replica(graph, options);
  const auto expected = make_host_replica(graph, plain);
  const auto refused = make_host_replica(graph, options, false);
  for (const HostReplica* replica : {&recorded, &expected, &refused})
    replica->network->initialize(7);
  for (std::uint64_t step = 0; step < 4; ++step) {
    const data::Samples samples = samples_of(graph, step);
    for (const HostReplica* replica : {&recorded, &refused}) {
      CHECK((*replica)->forward(samples.batch(), Mode::train) ==
            expected->forward(samples.batch(), Mode::train));
    }
    for (const HostReplica* replica : {&recorded, &expected, &refused}) {
      (*replica)->backward([](std::size_t) {});
    }
    CHECK(gradients_of(recorded) == gradients_of(expected));
    CHECK(gradients_of(refused) == gradients_of(expected));
  }
  // The first step runs plainly, the second is recorded.
  CHECK(recorded.counts->recorded == 2 * segments);
  CHECK(recorded.counts->launched == 2 * segments * 3);
  CHECK(recorded->notes()[1].find(", recorded") != std::string::npos);
  CHECK(expected.counts->recorded == 0);
  CHECK(refused->notes()[1].find("this library does not record") != std::string::npos);
}

TEST_CASE("an overflow shows in the gradients and halves the loss scale") {
  const Graph graph = small_cnn();
  const auto replica = make_host_replica(graph, {.batch = kBatch, .precision = Precision::f16});
  replica->initialize(7);
  const data::Samples samples = samples_of(graph);
  const auto step = [&] {
    replica->forward(samples.batch(), Mode::train);
    replica->backward([](std::size_t) {});
    return is_finite(*replica.network);
  };
  // Values in the thousands: the gradient of the first weights is beyond f16 at a scale of 65536.
  std::vector<double> weights = replica->plain_parameter(replica->parameters().size() - 2);
  const std::vector<double> usual = weights;
  for (double& weight : weights) weight *= 3000;
  replica->set_plain_parameter(replica->parameters().size() - 2, weights);
  int overflows = 0;
  while (!step()) {
    REQUIRE(++overflows < 24);
  }
  CHECK(overflows > 0);
  // It stays where it fits.
  CHECK(step());
  // And what it scales is divided out again: the same gradients at another scale.
  replica->set_plain_parameter(replica->parameters().size() - 2, usual);
  REQUIRE(step());
  const auto fresh = make_host_replica(graph, {.batch = kBatch});
  fresh->initialize(7);
  fresh->forward(samples.batch(), Mode::train);
  fresh->backward([](std::size_t) {});
  for (std::size_t i = 0; i < fresh->parameters().size(); ++i) {
    CHECK(relative_difference(replica->plain_gradient(i), fresh->plain_gradient(i)) < 0.1);
  }
}

TEST_CASE("a forward pass awaits each parameter once, before it reads it") {
  const Graph graph = models::make_model("resnet50", {.image = 32}).value();
  const auto samples = samples_of(graph);
  const auto replica = make_host_replica(graph, {.batch = kBatch, .segments = 5});
  replica->initialize(7);
  const double expected = replica->forward(samples.batch(), Mode::train);
  std::vector<int> calls;
  CHECK(nn::test::forward_awaiting(*replica.network, samples.batch(), &calls) == expected);
  CHECK(calls == std::vector<int>(replica->parameters().size(), 1));
}

TEST_CASE("a batch on the device trains like one from the host, and a deferred loss arrives") {
  const Graph graph = small_cnn();
  const auto samples = samples_of(graph);
  const auto replica = make_host_replica(graph, {.batch = kBatch, .deferred_loss = true});
  replica->initialize(7);
  CHECK_FALSE(replica->forward(samples.batch(), Mode::evaluate) > 1e9);
  const double expected = replica->last_loss();
  CHECK(expected > 0);
  // A FakeDevice's memory is the host's.
  Batch batch = samples.batch();
  batch.on_device = true;
  for (int step = 0; step < 6; ++step) {
    replica->forward(batch, Mode::train);
    CHECK(replica->last_loss() == dist::test::Approx(expected));
    replica->backward([](std::size_t) {});
  }
  CHECK(replica.device->events_out() <= 3);
}

TEST_CASE("a device that hangs is waited for until the deadline") {
  const Graph graph = small_cnn();
  const auto samples = samples_of(graph);
  for (const bool on_device : {false, true}) {
    const auto replica = make_host_replica(
        graph, {.batch = kBatch, .deferred_loss = true, .timeout = std::chrono::milliseconds(200)});
    const dist::Stream stream = replica->options().stream;
    replica->initialize(7);
    Batch batch = samples.batch();
    batch.on_device = on_device;
    const auto step = [&] {
      replica->forward(batch, Mode::train);
      replica->backward([](std::size_t) {});
    };
    step();
    replica->last_loss();
    replica.device->hold(stream);
    std::string failure;
    for (int k = 0; k < 4 && failure.empty(); ++k) {
      try {
        step();
      } catch (const nn::cudnn::Failure& failed) {
        failure = failed.what();
      }
    }
    CHECK(failure.find("did not come to an end of its work within 0.2 s") != std::string::npos);
    CHECK_THROWS_AS(replica->last_loss(), nn::cudnn::Failure);
    replica.device->let_go(stream);
  }
}

TEST_CASE("times are those of the node that does the work") {
  const Graph graph = small_cnn();
  const auto replica = make_host_replica(graph, {.batch = kBatch, .timing = true});
  replica->initialize(7);
  const auto samples = samples_of(graph);
  replica->forward(samples.batch(), Mode::train);
  replica->backward([](std::size_t) {});
  replica->last_loss();  // waits
  const auto times = replica->layer_times();
  REQUIRE(times.size() == graph.nodes.size());
  for (std::size_t i = 0; i < times.size(); ++i) {
    CHECK(times[i].name == graph.nodes[i].name);
    const bool works = i > 0 && !std::holds_alternative<Relu>(graph.nodes[i].layer);
    CHECK((times[i].forward_ns > 0) == works);
  }
  CHECK(times[1].backward_ns > 0);
}

TEST_CASE("half precision learns as f32 does") {
  const Graph graph = models::make_model("small_cnn", {.image = 16}).value();
  const auto expected = loss_curve(*make_host_replica(graph, {.batch = 8}).network);
  CHECK(expected.back() < 0.9 * expected.front());
  for (const Precision precision : {Precision::f16, Precision::bf16}) {
    INFO(name_of(precision));
    const auto curve =
        loss_curve(*make_host_replica(graph, {.batch = 8, .precision = precision}).network);
    REQUIRE(curve.size() == expected.size());
    for (std::size_t i = 0; i < curve.size(); ++i) {
      CHECK(curve[i] == dist::test::Approx(expected[i]).epsilon(0.02));
    }
  }
}
