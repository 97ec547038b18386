// SPDX-License-Identifier: Apache-2.0
// A small network for 32x32 images and 10 classes that trains fast on one core. It has no batch
// norm and no dropout, so N workers of batch b compute exactly the mean gradient of one batch N *
// b: the model of the equality tests.
#include <fmt/format.h>

#include "examples/models/architectures.h"

namespace nn::models {

dist::Result<Graph> make_small_cnn(const ModelOptions& options) {
  GraphBuilder g("small_cnn", {3, options.image, options.image});
  g.notes(
      "no batch norm, no dropout; He normal weights, N(0, 0.01) in the classifier, zero biases");
  std::size_t x = GraphBuilder::input();
  std::int64_t channels = 16;
  for (int i = 1; i <= 3; ++i, channels *= 2) {
    x = g.conv(fmt::format("conv{}", i), x,
               {.out_channels = channels, .window = square(3, 1, 1), .bias = true});
    x = g.relu(fmt::format("relu{}", i), x);
    x = g.max_pool(fmt::format("pool{}", i), x, square(2, 2));
  }
  x = g.dense("fc4", x, {.out = 64, .scheme = Scheme::he_normal});
  x = g.relu("relu4", x);
  x = g.dense("fc5", x, {.out = options.classes, .scheme = Scheme::small_normal});
  g.softmax_loss("loss", x);
  return std::move(g).finish();
}

}  // namespace nn::models
