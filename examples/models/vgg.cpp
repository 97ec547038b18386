// SPDX-License-Identifier: Apache-2.0
// VGG16 and VGG19: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
// Recognition" (2014), configurations D and E. Weights start as its footnote says, after Glorot and
// Bengio (the uniform form); biases at 0. The first dense layer's size follows the image.
#include <array>
#include <string>

#include <fmt/format.h>

#include "examples/models/architectures.h"

namespace nn::models {

dist::Result<Graph> make_vgg(int layers, const ModelOptions& options) {
  constexpr std::array<std::int64_t, 5> kChannels{64, 128, 256, 512, 512};
  const std::array<int, 5> depths =
      layers == 16 ? std::array<int, 5>{2, 2, 3, 3, 3} : std::array<int, 5>{2, 2, 4, 4, 4};
  GraphBuilder g(fmt::format("vgg{}", layers), {3, options.image, options.image});
  g.notes("Glorot uniform weights, zero biases, dropout after fc6 and fc7");
  std::size_t x = GraphBuilder::input();
  for (std::size_t stage = 0; stage < kChannels.size(); ++stage) {
    for (int i = 1; i <= depths[stage]; ++i) {
      const std::string id = fmt::format("{}_{}", stage + 1, i);
      x = g.conv("conv" + id, x,
                 {.out_channels = kChannels[stage],
                  .window = square(3, 1, 1),
                  .bias = true,
                  .scheme = Scheme::glorot_uniform});
      x = g.relu("relu" + id, x);
    }
    x = g.max_pool(fmt::format("pool{}", stage + 1), x, square(2, 2));
  }
  for (const int i : {6, 7}) {
    x = g.dense(fmt::format("fc{}", i), x, {.out = 4096});
    x = g.relu(fmt::format("relu{}", i), x);
    x = g.dropout(fmt::format("drop{}", i), x, options.dropout);
  }
  x = g.dense("fc8", x, {.out = options.classes});
  g.softmax_loss("loss", x);
  return std::move(g).finish();
}

}  // namespace nn::models
