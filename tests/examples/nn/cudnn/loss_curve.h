// SPDX-License-Identifier: Apache-2.0
// Fifty steps of small_cnn with momentum on learnable images; the update is made on the host, so
// that only the network differs.
#pragma once

#include <cmath>
#include <vector>

#include "examples/data/synthetic.h"
#include "examples/nn/network.h"

namespace nn::cudnn::test {

inline constexpr int kCurveSteps = 50;

/// The mean loss of every five steps. A step whose gradients are not finite changes nothing, as
/// with Update::skip_not_finite.
inline std::vector<double> loss_curve(Network& network) {
  constexpr double kRate = 0.01, kMomentum = 0.9;
  const Graph& graph = network.graph();
  const data::Synthetic data(data::Kind::learnable, graph.input_shape(), graph.classes(), 4);
  network.initialize(7);
  std::vector<std::vector<double>> values, velocities;
  for (std::size_t i = 0; i < network.parameters().size(); ++i) {
    values.push_back(network.plain_parameter(i));
    velocities.emplace_back(values[i].size(), 0.0);
  }
  std::vector<double> curve;
  double sum = 0;
  for (int step = 0; step < kCurveSteps;) {
    const auto samples = data.batch(static_cast<std::uint64_t>(step), network.options().batch);
    const double loss = network.forward(samples.batch(), Mode::train);
    network.backward([](std::size_t) {});
    std::vector<std::vector<double>> gradients;
    bool finite = true;
    for (std::size_t i = 0; i < values.size(); ++i) {
      gradients.push_back(network.plain_gradient(i));
      for (const double g : gradients[i]) finite = finite && std::isfinite(g);
    }
    if (!finite) continue;  // the same batch at a smaller loss scale
    for (std::size_t i = 0; i < values.size(); ++i) {
      for (std::size_t k = 0; k < values[i].size(); ++k) {
        velocities[i][k] = kMomentum * velocities[i][k] + gradients[i][k];
        values[i][k] -= kRate * velocities[i][k];
      }
      network.set_plain_parameter(i, values[i]);
    }
    sum += loss;
    if (++step % 5 != 0) continue;
    curve.push_back(sum / 5);
    sum = 0;
  }
  return curve;
}

}  // namespace nn::cudnn::test
