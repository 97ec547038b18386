// SPDX-License-Identifier: Apache-2.0
// ResNet-50 and ResNet-152: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition"
// (2015), bottleneck form with projection shortcuts where shapes change. This is version 1.5: a
// stage is entered with the stride in its first 3x3 convolution, not in the 1x1 before it (v1).
// Parameters are the same; v1.5 takes a little more work and is what other frameworks' benchmarks
// run. Weights: He normal (fan in); gamma 1, beta 0; classifier N(0, 0.01) with zero bias.
#include <array>
#include <string>

#include <fmt/format.h>

#include "examples/models/architectures.h"

namespace nn::models {
namespace {

std::size_t conv_norm(GraphBuilder& g, const std::string& prefix, const std::string& suffix,
                      std::size_t x, std::int64_t channels, Window window) {
  x = g.conv(prefix + "conv" + suffix, x, {.out_channels = channels, .window = window});
  return g.batch_norm(prefix + "bn" + suffix, x, {.epsilon = 1e-5, .momentum = 0.1});
}

std::size_t bottleneck(GraphBuilder& g, const std::string& prefix, std::size_t x,
                       std::int64_t channels, std::int64_t stride, bool project) {
  std::size_t y = conv_norm(g, prefix, "1", x, channels, square(1));
  y = g.relu(prefix + "relu1", y);
  y = conv_norm(g, prefix, "2", y, channels, square(3, stride, 1));
  y = g.relu(prefix + "relu2", y);
  y = conv_norm(g, prefix, "3", y, 4 * channels, square(1));
  if (project) x = conv_norm(g, prefix, "_shortcut", x, 4 * channels, square(1, stride));
  x = g.add(prefix + "add", y, x);
  return g.relu(prefix + "relu3", x);
}

}  // namespace

dist::Result<Graph> make_resnet(int layers, const ModelOptions& options) {
  const std::array<int, 4> depths =
      layers == 50 ? std::array<int, 4>{3, 4, 6, 3} : std::array<int, 4>{3, 8, 36, 3};
  GraphBuilder g(fmt::format("resnet{}", layers), {3, options.image, options.image});
  g.notes("v1.5 (stride in the 3x3 of a bottleneck), He normal weights");
  std::size_t x = conv_norm(g, "", "1", GraphBuilder::input(), 64, square(7, 2, 3));
  x = g.relu("relu1", x);
  x = g.max_pool("pool1", x, square(3, 2, 1));
  std::int64_t channels = 64;
  for (std::size_t stage = 0; stage < depths.size(); ++stage, channels *= 2) {
    for (int block = 0; block < depths[stage]; ++block) {
      const std::int64_t stride = stage > 0 && block == 0 ? 2 : 1;
      x = bottleneck(g, fmt::format("stage{}.{}.", stage + 1, block), x, channels, stride,
                     block == 0);
    }
  }
  x = g.global_avg_pool("pool5", x);
  x = g.dense("fc", x, {.out = options.classes, .scheme = Scheme::small_normal});
  g.softmax_loss("loss", x);
  return std::move(g).finish();
}

}  // namespace nn::models
