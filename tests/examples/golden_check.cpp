// SPDX-License-Identifier: Apache-2.0
// Reading golden files, running the same step, comparing.
#include "tests/examples/golden_check.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "examples/data/synthetic.h"
#include "examples/models/models.h"
#include "examples/nn/random.h"
#include "tests/examples/replica.h"
#include "tests/support/catch.h"

namespace nn::test {
namespace {

using nlohmann::json;

constexpr double kZero = 1e-10;  // of the largest: rounding noise of PyTorch in float64

json read_golden(const std::string& file) {
  std::ifstream stream(std::string(DIST_GOLDEN_DIR) + "/" + file + ".json");
  INFO("golden file " << file);
  REQUIRE(stream.good());
  return json::parse(stream);
}

Replica make_golden_replica(const json& golden, const std::string& backend, dist::DType dtype) {
  const auto graph = models::make_model(golden.at("model").get<std::string>(),
                                        {.image = golden.at("image").get<std::int64_t>(),
                                         .dropout = 0,
                                         .classes = golden.at("classes").get<std::int64_t>()});
  REQUIRE_OK(graph);
  auto replica = try_replica(backend, *graph,
                             {.batch = golden.at("batch").get<std::int64_t>(), .dtype = dtype});
  if (is_absent(backend, *graph, replica.status())) {
    dist::test::skip(replica.status().message());
  }
  REQUIRE_OK(replica);
  (*replica)->initialize(golden.at("parameter_seed").get<std::uint64_t>());
  for (std::size_t i = 0; i < (*replica)->parameters().size(); ++i) {
    if (!(*replica)->parameters()[i].name.ends_with(".beta")) continue;
    const std::vector<double> start((*replica)->plain_parameter(i).size(), golden.at("beta"));
    (*replica)->set_plain_parameter(i, start);
  }
  return std::move(*replica);
}

data::Synthetic golden_data(const json& golden, const std::string& kind, const Graph& graph) {
  return {*data::kind_from(kind), graph.input_shape(), graph.classes(),
          golden.at("data_seed").get<std::uint64_t>()};
}

bool close(double value, double golden, double tolerance) {
  return std::abs(value - golden) <= tolerance * std::abs(golden);
}

double norm_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

double root_mean_square(const json& tensor) {
  return tensor.at("norm").get<double>() / std::sqrt(tensor.at("elements").get<double>());
}

void check_gradient(const json& tensor, const std::vector<double>& gradient, double largest,
                    std::uint64_t data_seed, const GoldenTolerance& tolerance) {
  const std::string name = tensor.at("name").get<std::string>();
  REQUIRE(gradient.size() == tensor.at("elements").get<std::size_t>());
  const double root_size = std::sqrt(static_cast<double>(gradient.size()));
  const double golden = root_mean_square(tensor);
  const double found = norm_of(gradient) / root_size;
  INFO(name << ": root mean square " << found << ", golden " << golden << ", largest " << largest);
  if (golden < kZero * largest) {
    CHECK(found <= tolerance.zero * largest);
    return;
  }
  CHECK(std::abs(found - golden) <= tolerance.gradient * golden);
  const auto samples = tensor.at("samples").get<std::vector<double>>();
  double squares = 0;
  for (std::size_t k = 0; k < samples.size(); ++k) {
    const std::size_t i = random_bits(data_seed, stream_of(name), k) % gradient.size();
    squares += (gradient[i] - samples[k]) * (gradient[i] - samples[k]);
  }
  const double difference = std::sqrt(squares / static_cast<double>(samples.size()));
  CHECK(difference <= tolerance.samples * golden);
}

}  // namespace

void check_golden(const std::string& file, const std::string& backend, dist::DType dtype,
                  const GoldenTolerance& tolerance) {
  const json golden = read_golden(file);
  const Replica replica = make_golden_replica(golden, backend, dtype);
  const Graph& graph = replica->graph();
  const data::Samples samples = golden_data(golden, golden.at("data"), graph)
                                    .batch(0, golden.at("batch").get<std::int64_t>());

  const double loss = replica->forward(samples.batch(), Mode::train);
  INFO(file << " on " << backend << ": loss " << loss << ", golden " << golden.at("loss"));
  CHECK(close(loss, golden.at("loss"), tolerance.loss));
  replica->backward([](std::size_t) {});

  const json& tensors = golden.at("gradients");
  REQUIRE(tensors.size() == graph.parameters.size());
  double largest = 0;
  std::map<std::string, json> by_name;
  for (const json& tensor : tensors) {
    largest = std::max(largest, root_mean_square(tensor));
    by_name[tensor.at("name")] = tensor;
  }
  for (std::size_t i = 0; i < replica->parameters().size(); ++i) {
    const std::string& name = replica->parameters()[i].name;
    INFO("parameter " << name);
    REQUIRE(by_name.count(name) == 1);
    const json& tensor = by_name[name];
    check_gradient(tensor, replica->plain_gradient(i), largest, golden.at("data_seed"), tolerance);
  }

  const double evaluated = replica->forward(samples.batch(), Mode::evaluate);
  INFO("evaluation loss " << evaluated << ", golden " << golden.at("loss_evaluate"));
  CHECK(close(evaluated, golden.at("loss_evaluate"), tolerance.loss));
}

void check_training_losses(const std::string& backend, dist::DType dtype, double tolerance) {
  const json golden = read_golden("small_cnn");
  const json& training = golden.at("training");
  const Replica replica = make_golden_replica(golden, backend, dtype);
  const data::Synthetic data = golden_data(golden, training.at("data"), replica->graph());
  const double learning_rate = training.at("learning_rate");
  const double momentum = training.at("momentum");
  std::vector<std::vector<double>> velocities(replica->parameters().size());

  std::uint64_t step = 0;
  for (const json& expected : training.at("losses")) {
    const data::Samples samples = data.batch(step, golden.at("batch").get<std::int64_t>());
    const double loss = replica->forward(samples.batch(), Mode::train);
    INFO("step " << step << ": loss " << loss << ", golden " << expected);
    CHECK(close(loss, expected, tolerance));
    replica->backward([](std::size_t) {});
    for (std::size_t i = 0; i < velocities.size(); ++i) {
      const std::vector<double> gradient = replica->plain_gradient(i);
      std::vector<double> values = replica->plain_parameter(i);
      velocities[i].resize(values.size(), 0.0);
      for (std::size_t k = 0; k < values.size(); ++k) {
        velocities[i][k] = momentum * velocities[i][k] + gradient[k];
        values[k] -= learning_rate * velocities[i][k];
      }
      replica->set_plain_parameter(i, values);
    }
    ++step;
  }
  CHECK(step == 10);
}

}  // namespace nn::test
