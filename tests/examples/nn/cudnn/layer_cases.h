// SPDX-License-Identifier: Apache-2.0
// Small graphs that hold every kind of layer of the cuDNN backend, fused in every way, and the
// comparison of such a graph with ref: the same for the kernels on the host and on a GPU.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "examples/data/synthetic.h"
#include "tests/examples/replica.h"
#include "tests/support/catch.h"

namespace nn::cudnn::test {

inline constexpr std::int64_t kBatch = 3;

struct LayerCase {
  std::string name;
  Graph graph;
  /// Half precision against ref, relative norm of a gradient. 0: not compared, for ReLUs that have
  /// no bias to keep their inputs away from zero, where rounding decides.
  double half_tolerance = 1e-2;
};

/// The layer stands between a convolution with a ReLU, so that it has an input gradient and every
/// bias one too, and a classifier.
template <typename Build>
LayerCase layer_case(const std::string& name, const Build& build, double half_tolerance = 1e-2) {
  GraphBuilder g(name, {3, 11, 9});
  const auto before = g.conv("before", GraphBuilder::input(), {6, square(3, 1, 1), true});
  const auto tested = build(g, g.relu("between", before));
  g.softmax_loss("loss", g.dense("classifier", tested, {5}));
  return {name, std::move(g).finish().value(), half_tolerance};
}

inline void add_weighted_cases(std::vector<LayerCase>& cases) {
  const Window windows[] = {square(1),       square(1, 2),    square(3, 1, 1), square(3, 2),
                            square(5, 2, 2), {1, 7, 1, 0, 3}, {7, 1, 1, 3, 0}};
  for (const Window& window : windows) {
    for (const std::int64_t channels : {1, 16, 21}) {
      const std::string name = "conv " + std::to_string(window.kernel_h) + "x" +
                               std::to_string(window.kernel_w) + " stride " +
                               std::to_string(window.stride) + ", " + std::to_string(channels);
      cases.push_back(layer_case(name, [&](GraphBuilder& g, std::size_t x) {
        return g.relu("relu", g.conv("conv", x, {channels, window, true}));
      }));
    }
  }
  cases.push_back(layer_case("conv, bias and no ReLU", [](GraphBuilder& g, std::size_t x) {
    return g.conv("conv", x, {7, square(3, 1, 1), true});
  }));
  cases.push_back(layer_case(
      "conv, ReLU and no bias",
      [](GraphBuilder& g, std::size_t x) {
        return g.relu("relu", g.conv("conv", x, {7, square(3, 1, 1), false}));
      },
      0));
  cases.push_back(layer_case("dense and dropout", [](GraphBuilder& g, std::size_t x) {
    return g.dropout("dropout", g.relu("relu", g.dense("dense", x, {33})), 0.4);
  }));
  cases.push_back(layer_case(
      "dense without bias",
      [](GraphBuilder& g, std::size_t x) {
        return g.relu("relu", g.dense("dense", x, {17, false}));
      },
      0));
}

inline void add_norm_cases(std::vector<LayerCase>& cases) {
  cases.push_back(
      layer_case("norm", [](GraphBuilder& g, std::size_t x) { return g.batch_norm("norm", x); }));
  cases.push_back(layer_case("norm, ReLU", [](GraphBuilder& g, std::size_t x) {
    return g.relu("relu", g.batch_norm("norm", x));
  }));
  cases.push_back(layer_case("norm, add, ReLU", [](GraphBuilder& g, std::size_t x) {
    const auto side = g.batch_norm("norm", g.conv("conv", x, {6, square(3, 1, 1)}));
    return g.relu("relu", g.add("add", side, x));
  }));
  cases.push_back(layer_case("two norms, add, ReLU", [](GraphBuilder& g, std::size_t x) {
    const auto a = g.batch_norm("norm a", g.conv("conv a", x, {12, square(3, 2, 1)}));
    const auto b = g.batch_norm("norm b", g.conv("conv b", x, {12, square(1, 2)}));
    return g.relu("relu", g.add("add", a, b));
  }));
  cases.push_back(layer_case("norm and its own input", [](GraphBuilder& g, std::size_t x) {
    return g.relu("relu", g.add("add", g.batch_norm("norm", x), x));
  }));
  cases.push_back(layer_case("add of norms, no ReLU", [](GraphBuilder& g, std::size_t x) {
    return g.add("add", g.batch_norm("norm", x), g.conv("conv", x, {6, square(1)}));
  }));
}

/// Of pixels that are almost equal, rounding chooses the largest, and its neighbour's gradient is
/// lost.
inline constexpr double kAlmostEqual = 0.1;

inline void add_join_and_pool_cases(std::vector<LayerCase>& cases) {
  cases.push_back(layer_case(
      "max pool",
      [](GraphBuilder& g, std::size_t x) { return g.max_pool("pool", x, square(3, 2, 1)); },
      kAlmostEqual));
  cases.push_back(layer_case("average pool", [](GraphBuilder& g, std::size_t x) {
    return g.avg_pool("pool", x, square(3, 1, 1));
  }));
  cases.push_back(layer_case("average pool, stride", [](GraphBuilder& g, std::size_t x) {
    return g.avg_pool("pool", x, {2, 3, 2, 1, 0});
  }));
  cases.push_back(layer_case(
      "global pool", [](GraphBuilder& g, std::size_t x) { return g.global_avg_pool("pool", x); }));
  cases.push_back(layer_case(
      "two readers",
      [](GraphBuilder& g, std::size_t x) {
        return g.add("add", g.max_pool("a", x, square(3, 1, 1)),
                     g.relu("b", g.dropout("drop", x, 0.3)));
      },
      kAlmostEqual));
  cases.push_back(layer_case("add, ReLU", [](GraphBuilder& g, std::size_t x) {
    return g.relu("relu", g.add("add", g.conv("side", x, {6, square(3, 1, 1)}), x));
  }));
  cases.push_back(layer_case("concat, odd channels", [](GraphBuilder& g, std::size_t x) {
    return g.concat("concat",
                    {g.conv("a", x, {5, square(1)}), x, g.conv("b", x, {17, square(3, 1, 1)})});
  }));
  cases.push_back(layer_case(
      "concat in place",
      [](GraphBuilder& g, std::size_t x) {
        const auto a = g.relu("relu a", g.batch_norm("norm a", g.conv("a", x, {8, square(1)})));
        const auto b =
            g.relu("relu b", g.batch_norm("norm b", g.conv("b", x, {16, square(3, 1, 1)})));
        const auto c = g.max_pool("pool", g.conv("c", x, {24, square(1)}), square(3, 1, 1));
        const auto joined = g.concat("concat", {a, g.conv("d", x, {8, square(1)}), b, c});
        return g.relu("after", g.conv("last", joined, {9, square(3, 1, 1), true}));
      },
      kAlmostEqual));
}

inline std::vector<LayerCase> layer_cases() {
  std::vector<LayerCase> cases;
  add_weighted_cases(cases);
  add_norm_cases(cases);
  add_join_and_pool_cases(cases);
  return cases;
}

inline double root_mean_square(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

/// Relative norm of the difference; `least` keeps what cancels out from counting as all wrong.
inline double relative_difference(std::vector<double> a, const std::vector<double>& b,
                                  double least = 1e-20) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return root_mean_square(a) / std::max(root_mean_square(b), least);
}

/// Biases and shifts of +4 and -4 by channel: a ReLU then passes a channel or not, and no rounding
/// changes that.
inline void open_or_close(Network& network) {
  for (std::size_t i = 0; i < network.parameters().size(); ++i) {
    const std::string& name = network.parameters()[i].name;
    if (name.starts_with("classifier") || !(name.ends_with(".bias") || name.ends_with(".beta"))) {
      continue;
    }
    std::vector<double> values = network.plain_parameter(i);
    for (std::size_t c = 0; c < values.size(); ++c) values[c] = c % 3 == 2 ? -4 : 4;
    network.set_plain_parameter(i, values);
  }
}

inline bool is_finite(const Network& network) {
  for (std::size_t i = 0; i < network.parameters().size(); ++i) {
    for (const double value : network.plain_gradient(i)) {
      if (!std::isfinite(value)) return false;
    }
  }
  return true;
}

/// bf16 has three bits less than f16, and the graphs are several layers deep.
inline constexpr double kBfloatFactor = 10;

struct Comparison {
  double tolerance = 1e-4;  ///< of losses and gradients, relative norm
  bool half = false;        ///< see open_or_close(); the first steps may overflow
  std::uint64_t step = 0;
};

/// Losses, accuracy and gradients of a replica against ref in f64. Parameters whose gradient
/// cancels out (a bias before a batch norm) have none in layer_cases().
inline void check_against_ref(const Graph& graph, Network& network, const Comparison& how) {
  const auto samples =
      data::Synthetic(data::Kind::random, graph.input_shape(), graph.classes(), 4).batch(0, kBatch);
  const auto ref = nn::test::make_replica(
      "ref", graph, {.batch = kBatch, .dtype = dist::DType::f64, .dropout_seed = 3});
  for (Network* replica : {ref.network.get(), &network}) {
    replica->initialize(7);
    if (how.half) open_or_close(*replica);
  }
  for (int tries = 0; how.half && tries < 20; ++tries) {  // until the loss scale fits
    network.forward(samples.batch(), Mode::train);
    network.backward([](std::size_t) {});
    if (is_finite(network)) break;
    REQUIRE(tries < 19);
  }
  ref->resume_at(how.step);
  network.resume_at(how.step);
  for (int pass = 0; pass < 2; ++pass) {
    const double expected = ref->forward(samples.batch(), Mode::train);
    CHECK(network.forward(samples.batch(), Mode::train) ==
          dist::test::Approx(expected).epsilon(how.tolerance));
    CHECK(network.accuracy() == ref->accuracy());
    if (pass > 0 || how.half) continue;  // the tries have moved the running statistics
    const double evaluated = ref->forward(samples.batch(), Mode::evaluate);
    CHECK(network.forward(samples.batch(), Mode::evaluate) ==
          dist::test::Approx(evaluated).epsilon(how.tolerance));
  }
  ref->backward([](std::size_t) {});
  std::size_t next = 0;
  network.backward([&](std::size_t i) { CHECK(i == next++); });
  REQUIRE(next == network.parameters().size());
  double largest = 0;
  for (std::size_t i = 0; i < next; ++i) {
    largest = std::max(largest, root_mean_square(ref->plain_gradient(i)));
  }
  for (std::size_t i = 0; i < next; ++i) {
    INFO(network.parameters()[i].name);
    CHECK(network.parameters()[i].name == ref->parameters()[i].name);
    CHECK(relative_difference(network.plain_parameter(i), ref->plain_parameter(i)) < 1e-7);
    CHECK(relative_difference(network.plain_gradient(i), ref->plain_gradient(i), largest / 100) <
          how.tolerance);
  }
}

}  // namespace nn::cudnn::test
