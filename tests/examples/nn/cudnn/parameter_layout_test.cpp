// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/parameter_layout.h"

#include <numeric>

#include "tests/support/catch.h"

using namespace nn;
using namespace nn::cudnn;

namespace {

// Parameters: conv.weight [5, 3, 3, 2], conv.bias [5], norm.gamma and .beta [5], fc.weight [10, 5 *
// 6
// * 5].
Graph three_channels() {
  GraphBuilder g("three channels", {3, 6, 6});
  const auto x = g.conv("conv", GraphBuilder::input(), {5, {3, 2, 1, 1, 0}, true});
  g.softmax_loss("loss", g.dense("fc", g.relu("relu", g.batch_norm("norm", x)), {10, false}));
  return std::move(g).finish().value();
}

}  // namespace

TEST_CASE("a weight lies ohwi, input and output channels padded with zeros") {
  const Graph graph = three_channels();
  const auto layout = ParameterLayout::of(graph, 0);
  CHECK(layout.elements() == 8 * 3 * 2 * 8);
  std::vector<double> plain(5 * 3 * 3 * 2);
  std::iota(plain.begin(), plain.end(), 1.0);
  const std::vector<float> laid = layout.from_plain(plain);
  const auto at = [&](std::size_t o, std::size_t h, std::size_t w, std::size_t c) {
    return laid[((o * 3 + h) * 2 + w) * 8 + c];
  };
  // plain is oihw: o = 2, i = 1, h = 2, w = 0.
  CHECK(at(2, 2, 0, 1) == static_cast<float>(1 + ((2 * 3 + 1) * 3 + 2) * 2 + 0));
  CHECK(at(2, 2, 0, 3) == 0);
  CHECK(at(5, 0, 0, 0) == 0);
  CHECK(std::accumulate(laid.begin(), laid.end(), 0.0) ==
        std::accumulate(plain.begin(), plain.end(), 0.0));
  CHECK(layout.to_plain(laid) == plain);
}

TEST_CASE("a dense weight lies as the pixels that it reads do") {
  const Graph graph = three_channels();
  const auto layout = ParameterLayout::of(graph, 4);
  // The conv leaves 6 rows and 5 columns of 5 channels.
  CHECK(layout.elements() == 16 * 6 * 5 * 8);
  std::vector<double> plain(10 * 5 * 6 * 5);
  std::iota(plain.begin(), plain.end(), 1.0);
  const std::vector<float> laid = layout.from_plain(plain);
  // Output 3, channel 2, row 4, column 1; plain is (o, c, h, w).
  CHECK(laid[((3 * 6 + 4) * 5 + 1) * 8 + 2] ==
        static_cast<float>(1 + ((3 * 5 + 2) * 6 + 4) * 5 + 1));
  CHECK(layout.to_plain(laid) == plain);
}

TEST_CASE("vectors are padded") {
  const Graph graph = three_channels();
  for (const std::size_t p : {1u, 2u, 3u}) {
    const auto layout = ParameterLayout::of(graph, p);
    const std::vector<double> plain{1, 2, 3, 4, 5};
    CHECK(layout.from_plain(plain) == std::vector<float>{1, 2, 3, 4, 5, 0, 0, 0});
    CHECK(layout.to_plain(layout.from_plain(plain)) == plain);
  }
}
