// SPDX-License-Identifier: Apache-2.0
// The cuDNN backend on a GPU: every layer against ref in all precisions, models against PyTorch,
// loss curves, recorded passes. Skips where there is no GPU.
#include "examples/models/models.h"
#include "tests/examples/golden_check.h"
#include "tests/examples/nn/cudnn/layer_cases.h"
#include "tests/examples/nn/cudnn/loss_curve.h"

using namespace nn;
using namespace nn::cudnn::test;

namespace {

nn::test::Replica gpu_replica(const Graph& graph, const NetworkOptions& options) {
  auto made = nn::test::try_replica("cudnn", graph, options);
  if (nn::test::is_absent("cudnn", graph, made.status())) {
    dist::test::skip(made.status().message());
  }
  return std::move(made).value();
}

void check_layers(Precision precision, double factor, bool half) {
  for (const LayerCase& layer : layer_cases()) {
    if (half && layer.half_tolerance == 0) continue;
    INFO(layer.name << " in " << name_of(precision));
    const auto replica =
        gpu_replica(layer.graph, {.batch = kBatch, .dropout_seed = 3, .precision = precision});
    const double tolerance = half ? layer.half_tolerance * factor : factor;
    check_against_ref(layer.graph, *replica.network,
                      {.tolerance = tolerance, .half = half, .step = half ? 0u : 5u});
  }
}

std::vector<std::vector<double>> gradients_of(const nn::test::Replica& replica) {
  std::vector<std::vector<double>> gradients;
  for (std::size_t i = 0; i < replica->parameters().size(); ++i) {
    gradients.push_back(replica->plain_gradient(i));
  }
  return gradients;
}

}  // namespace

TEST_CASE("layers in f32 on a GPU") { check_layers(Precision::f32, 1e-4, false); }
TEST_CASE("layers in tf32 on a GPU") { check_layers(Precision::tf32, 0.3, true); }
TEST_CASE("layers in f16 on a GPU") { check_layers(Precision::f16, 1, true); }
TEST_CASE("layers in bf16 on a GPU") { check_layers(Precision::bf16, kBfloatFactor, true); }

TEST_CASE("models in f32 on a GPU agree with PyTorch within 1e-3", "[golden]") {
  const std::string file =
      GENERATE("small_cnn", "vgg16", "resnet50_open", "resnet152_open", "inception_v4_open");
  nn::test::check_golden(file, "cudnn", dist::DType::f32, nn::test::kFloat32);
}

TEST_CASE("ten training losses of small_cnn on a GPU", "[golden]") {
  nn::test::check_training_losses("cudnn", dist::DType::f32, 1e-4);
}

TEST_CASE("low precision learns as f32 does on a GPU") {
  const Graph graph = models::make_model("small_cnn").value();
  const auto expected = loss_curve(*gpu_replica(graph, {.batch = 32}).network);
  for (const Precision precision : {Precision::tf32, Precision::f16, Precision::bf16}) {
    INFO(name_of(precision));
    const auto curve =
        loss_curve(*gpu_replica(graph, {.batch = 32, .precision = precision}).network);
    REQUIRE(curve.size() == expected.size());
    for (std::size_t i = 0; i < curve.size(); ++i) {
      CHECK(curve[i] == dist::test::Approx(expected[i]).epsilon(0.02));
    }
  }
}

TEST_CASE("a recorded step on a GPU is the step itself") {
  const Graph graph = models::make_model("resnet50", {.image = 64}).value();
  const Precision precision = GENERATE(Precision::f32, Precision::f16);
  // Algorithms are timed for each replica anew, and may differ: those that sum in another order
  // differ in the last bits.
  const double tolerance = precision == Precision::f32 ? 1e-3 : 5e-2;
  NetworkOptions options{.batch = 8, .precision = precision, .segments = 3, .deterministic = true};
  const auto recorded = gpu_replica(graph, options);
  options.capture = false;
  const auto plain = gpu_replica(graph, options);
  recorded->initialize(7);
  plain->initialize(7);
  const auto samples =
      data::Synthetic(data::Kind::random, graph.input_shape(), graph.classes(), 4).batch(0, 8);
  std::vector<std::vector<double>> first;
  for (int step = 0; step < 4; ++step) {
    CHECK(recorded->forward(samples.batch(), Mode::train) ==
          dist::test::Approx(plain->forward(samples.batch(), Mode::train)).epsilon(tolerance));
    for (const auto* replica : {&recorded, &plain}) (*replica)->backward([](std::size_t) {});
    if (precision == Precision::f16 && !is_finite(*recorded.network)) continue;
    // Within a replica the algorithms stay: the plain first step and the recorded ones are equal.
    if (first.empty()) first = gradients_of(recorded);
    if (precision == Precision::f32) CHECK(gradients_of(recorded) == first);
  }
  const auto expected = gradients_of(plain);
  const auto found = gradients_of(recorded);
  double largest = 0;
  for (const auto& gradient : expected) largest = std::max(largest, root_mean_square(gradient));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO(recorded->parameters()[i].name);
    if (precision == Precision::f32) {
      CHECK(relative_difference(found[i], expected[i], largest / 100) < tolerance);
    }
  }
  for (const std::string& note : recorded->notes()) INFO(note);
  CHECK(recorded->notes()[1].find(", recorded") != std::string::npos);
}
