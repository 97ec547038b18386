// SPDX-License-Identifier: Apache-2.0
// Inception-v4: Szegedy, Ioffe, Vanhoucke, Alemi, "Inception-v4, Inception-ResNet and the Impact of
// Residual Connections on Learning" (2016), figures 3-9 and table 1. Every convolution is followed
// by batch norm (epsilon 0.001) and ReLU; "V" in the figures is no padding. Where figure 6 prints
// 1x7 twice, the two directions alternate, as in the authors' own program. The paper names no
// initial values: He normal here, classifier N(0, 0.01) with zero bias. Average pools do not count
// padding.
#include <string>
#include <utility>

#include <fmt/format.h>

#include "examples/models/architectures.h"

namespace nn::models {
namespace {

constexpr Window kOneBySeven{1, 7, 1, 0, 3};
constexpr Window kSevenByOne{7, 1, 1, 3, 0};
constexpr Window kOneByThree{1, 3, 1, 0, 1};
constexpr Window kThreeByOne{3, 1, 1, 1, 0};

// Nodes of one block, named "<block>.<what>".
class Block {
 public:
  Block(GraphBuilder& g, std::string name) : g_(g), name_(std::move(name)) {}

  // Convolution, batch norm, ReLU.
  std::size_t conv(const char* what, std::size_t x, std::int64_t channels, Window window) {
    const std::string base = name_ + "." + what;
    x = g_.conv(base + ".conv", x, {.out_channels = channels, .window = window});
    x = g_.batch_norm(base + ".bn", x, {.epsilon = 1e-3, .momentum = 0.1});
    return g_.relu(base + ".relu", x);
  }
  std::size_t shrink(const char* what, std::size_t x) {
    return g_.max_pool(name_ + "." + what, x, square(3, 2));
  }
  std::size_t average(std::size_t x) { return g_.avg_pool(name_ + ".pool", x, square(3, 1, 1)); }
  std::size_t join(const char* what, std::vector<std::size_t> branches) {
    return g_.concat(name_ + "." + what, std::move(branches));
  }

 private:
  GraphBuilder& g_;
  std::string name_;
};

std::size_t stem(Block b, std::size_t x) {
  x = b.conv("1", x, 32, square(3, 2));
  x = b.conv("2", x, 32, square(3));
  x = b.conv("3", x, 64, square(3, 1, 1));
  x = b.join("join1", {b.shrink("pool1", x), b.conv("4", x, 96, square(3, 2))});

  std::size_t left = b.conv("5a", x, 64, square(1));
  left = b.conv("5b", left, 96, square(3));
  std::size_t right = b.conv("6a", x, 64, square(1));
  right = b.conv("6b", right, 64, kSevenByOne);
  right = b.conv("6c", right, 64, kOneBySeven);
  right = b.conv("6d", right, 96, square(3));
  x = b.join("join2", {left, right});
  return b.join("join3", {b.conv("7", x, 192, square(3, 2)), b.shrink("pool2", x)});
}

std::size_t inception_a(Block b, std::size_t x) {
  const std::size_t pooled = b.conv("1", b.average(x), 96, square(1));
  const std::size_t plain = b.conv("2", x, 96, square(1));
  std::size_t middle = b.conv("3a", x, 64, square(1));
  middle = b.conv("3b", middle, 96, square(3, 1, 1));
  std::size_t deep = b.conv("4a", x, 64, square(1));
  deep = b.conv("4b", deep, 96, square(3, 1, 1));
  deep = b.conv("4c", deep, 96, square(3, 1, 1));
  return b.join("join", {pooled, plain, middle, deep});
}

std::size_t reduction_a(Block b, std::size_t x) {
  const std::size_t pooled = b.shrink("pool", x);
  const std::size_t plain = b.conv("2", x, 384, square(3, 2));
  std::size_t deep = b.conv("3a", x, 192, square(1));
  deep = b.conv("3b", deep, 224, square(3, 1, 1));
  deep = b.conv("3c", deep, 256, square(3, 2));
  return b.join("join", {pooled, plain, deep});
}

std::size_t inception_b(Block b, std::size_t x) {
  const std::size_t pooled = b.conv("1", b.average(x), 128, square(1));
  const std::size_t plain = b.conv("2", x, 384, square(1));
  std::size_t middle = b.conv("3a", x, 192, square(1));
  middle = b.conv("3b", middle, 224, kOneBySeven);
  middle = b.conv("3c", middle, 256, kSevenByOne);
  std::size_t deep = b.conv("4a", x, 192, square(1));
  deep = b.conv("4b", deep, 192, kSevenByOne);
  deep = b.conv("4c", deep, 224, kOneBySeven);
  deep = b.conv("4d", deep, 224, kSevenByOne);
  deep = b.conv("4e", deep, 256, kOneBySeven);
  return b.join("join", {pooled, plain, middle, deep});
}

std::size_t reduction_b(Block b, std::size_t x) {
  const std::size_t pooled = b.shrink("pool", x);
  std::size_t middle = b.conv("2a", x, 192, square(1));
  middle = b.conv("2b", middle, 192, square(3, 2));
  std::size_t deep = b.conv("3a", x, 256, square(1));
  deep = b.conv("3b", deep, 256, kOneBySeven);
  deep = b.conv("3c", deep, 320, kSevenByOne);
  deep = b.conv("3d", deep, 320, square(3, 2));
  return b.join("join", {pooled, middle, deep});
}

std::size_t inception_c(Block b, std::size_t x) {
  const std::size_t pooled = b.conv("1", b.average(x), 256, square(1));
  const std::size_t plain = b.conv("2", x, 256, square(1));
  const std::size_t middle = b.conv("3a", x, 384, square(1));
  const std::size_t middle_wide = b.conv("3b", middle, 256, kOneByThree);
  const std::size_t middle_high = b.conv("3c", middle, 256, kThreeByOne);
  std::size_t deep = b.conv("4a", x, 384, square(1));
  deep = b.conv("4b", deep, 448, kThreeByOne);
  deep = b.conv("4c", deep, 512, kOneByThree);
  const std::size_t deep_wide = b.conv("4d", deep, 256, kOneByThree);
  const std::size_t deep_high = b.conv("4e", deep, 256, kThreeByOne);
  return b.join("join", {pooled, plain, middle_wide, middle_high, deep_wide, deep_high});
}

}  // namespace

dist::Result<Graph> make_inception_v4(const ModelOptions& options) {
  GraphBuilder g("inception_v4", {3, options.image, options.image});
  g.notes("He normal weights, batch norm epsilon 0.001, dropout 0.2 before the classifier");
  std::size_t x = stem({g, "stem"}, GraphBuilder::input());
  for (int i = 1; i <= 4; ++i) x = inception_a({g, fmt::format("a{}", i)}, x);
  x = reduction_a({g, "reduce_a"}, x);
  for (int i = 1; i <= 7; ++i) x = inception_b({g, fmt::format("b{}", i)}, x);
  x = reduction_b({g, "reduce_b"}, x);
  for (int i = 1; i <= 3; ++i) x = inception_c({g, fmt::format("c{}", i)}, x);
  x = g.global_avg_pool("pool", x);
  x = g.dropout("drop", x, options.dropout);
  x = g.dense("fc", x, {.out = options.classes, .scheme = Scheme::small_normal});
  g.softmax_loss("loss", x);
  return std::move(g).finish();
}

}  // namespace nn::models
