// SPDX-License-Identifier: Apache-2.0
// A network as data: layers, shapes, parameters. No backend and no memory; every backend builds its
// replica from the same Graph, so that names, counts and orders agree between all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "libdist/status.h"

namespace nn {

/// The output of a node for one image. Dense layers see channels * height * width features.
struct Shape {
  std::int64_t channels = 0;
  std::int64_t height = 1;
  std::int64_t width = 1;

  std::int64_t elements() const { return channels * height * width; }
  bool operator==(const Shape&) const = default;
};

/// A sliding window; out = floor((in + 2 * padding - kernel) / stride) + 1 in each direction.
struct Window {
  std::int64_t kernel_h = 1;
  std::int64_t kernel_w = 1;
  std::int64_t stride = 1;
  std::int64_t padding_h = 0;
  std::int64_t padding_w = 0;
};
constexpr Window square(std::int64_t kernel, std::int64_t stride = 1, std::int64_t padding = 0) {
  return {kernel, kernel, stride, padding, padding};
}

/// How a weight is drawn; fans are of the layer's own weight. Biases start at zero.
enum class Scheme {
  glorot_uniform,  ///< U(-b, b), b = sqrt(6 / (fan_in + fan_out)).
  he_normal,       ///< N(0, sqrt(2 / fan_in)).
  small_normal,    ///< N(0, 0.01), for a classifier.
};

struct Input {};
/// Cross-correlation, weight [out_channels, in_channels, kernel_h, kernel_w] (oihw).
struct Conv {
  std::int64_t out_channels = 0;
  Window window = {};
  bool bias = false;
  Scheme scheme = Scheme::he_normal;
};
struct MaxPool {
  Window window =
      {};  ///< Padding never wins; of equal values the first in row order gets the gradient.
};
struct AvgPool {
  Window window = {};  ///< The mean over what lies inside the image: padding is not counted.
};
struct GlobalAvgPool {};
/// Per channel over batch, height and width; biased variance. Parameters gamma, beta.
/// running = (1 - momentum) * running + momentum * batch (unbiased variance), used to evaluate.
struct BatchNorm {
  double epsilon = 1e-5;
  double momentum = 0.1;
};
struct Relu {};
/// weight [out, in] (oi), in = the input's elements in chw order.
struct Dense {
  std::int64_t out = 0;
  bool bias = true;
  Scheme scheme = Scheme::glorot_uniform;
};
/// Training: zero with probability `rate`, else scaled by 1 / (1 - rate). Identity to evaluate.
struct Dropout {
  double rate = 0.5;
};
struct Add {};     ///< Two inputs of equal shape.
struct Concat {};  ///< Two or more inputs of equal height and width, along channels.
/// Mean cross-entropy of softmax over the batch; its input's channels are the classes.
struct SoftmaxLoss {};

using Layer = std::variant<Input, Conv, MaxPool, AvgPool, GlobalAvgPool, BatchNorm, Relu, Dense,
                           Dropout, Add, Concat, SoftmaxLoss>;
std::string_view kind_of(const Layer& layer);  ///< "conv", "max_pool", ...

struct Initial {
  enum class Kind { constant, uniform, normal };
  Kind kind = Kind::constant;
  double value =
      0;  ///< constant: the value; uniform: bound b of [-b, b); normal: standard deviation.
};

struct ParameterInfo {
  std::string name;                ///< "<node>.weight", ".bias", ".gamma" or ".beta".
  std::vector<std::int64_t> dims;  ///< Plain layout: conv oihw, dense oi, others one dimension.
  Initial initial;
  std::size_t node = 0;

  std::uint64_t elements() const;
  /// Weights take part in weight decay; biases, gammas and betas, one value a channel, do not.
  bool decays() const { return dims.size() > 1; }
};

struct Node {
  std::string name;
  Layer layer;
  std::vector<std::size_t> inputs;  ///< Indices of earlier nodes.
  Shape shape;                      ///< Of the output, one image.
  /// Indices into Graph::parameters: weight, bias or gamma, beta.
  std::vector<std::size_t> parameters;
};

/// Nodes in forward (topological) order: the first is Input, the last SoftmaxLoss.
struct Graph {
  std::string name;   ///< The model's.
  std::string notes;  ///< One line for --describe: variant, initial values.
  std::vector<Node> nodes;
  std::vector<ParameterInfo> parameters;  ///< Forward order.

  const Shape& input_shape() const { return nodes.front().shape; }
  std::int64_t classes() const { return nodes.back().shape.channels; }
  const Shape& shape_of_input(const Node& node, std::size_t i = 0) const {
    return nodes[node.inputs[i]].shape;
  }

  /// Indices into `parameters` in the order in which gradients become ready: nodes in reverse,
  /// within a node weight then bias, gamma then beta. The order of Network::parameters().
  std::vector<std::size_t> backward_order() const;
  /// For every node, the nodes that read it, ascending.
  std::vector<std::vector<std::size_t>> consumers() const;

  std::uint64_t parameter_elements() const;
  std::uint64_t activation_elements() const;      ///< Sum over all nodes, one image.
  std::uint64_t forward_flop() const;             ///< One image; see flop_of.
  std::uint64_t flop_of(const Node& node) const;  ///< 2 per multiply-add of Conv and Dense, else 0.
};

/// The initial values of one parameter, in plain layout: the same numbers for every backend.
/// See random.h for the generator; the stream is the parameter's name.
std::vector<double> initial_values(const ParameterInfo& parameter, std::uint64_t seed);

/// Builds a Graph with verbs that return node indices. The first mistake (unknown input, window
/// larger than the image, shapes that do not join, a name used twice) is kept; later verbs then do
/// nothing.
class GraphBuilder {
 public:
  /// `input` is the shape of one image; its node has index 0 and the name "input".
  GraphBuilder(std::string model, Shape input);

  static constexpr std::size_t input() { return 0; }
  std::size_t conv(std::string name, std::size_t x, Conv options);
  std::size_t max_pool(std::string name, std::size_t x, Window window);
  std::size_t avg_pool(std::string name, std::size_t x, Window window);
  std::size_t global_avg_pool(std::string name, std::size_t x);
  std::size_t batch_norm(std::string name, std::size_t x, BatchNorm options = {});
  std::size_t relu(std::string name, std::size_t x);
  std::size_t dense(std::string name, std::size_t x, Dense options);
  std::size_t dropout(std::string name, std::size_t x, double rate);
  std::size_t add(std::string name, std::size_t a, std::size_t b);
  std::size_t concat(std::string name, std::vector<std::size_t> inputs);
  void softmax_loss(std::string name, std::size_t logits);
  void notes(std::string text) { graph_.notes = std::move(text); }

  /// The graph, or the first mistake. The loss must have been added.
  dist::Result<Graph> finish() &&;

 private:
  std::size_t append(std::string name, Layer layer, std::vector<std::size_t> inputs);
  void append_parameter(const char* role, std::vector<std::int64_t> dims, Initial initial);
  Shape window_shape(const std::string& name, const Window& window, Shape in,
                     std::int64_t channels);
  void fail(std::string message);

  Graph graph_;
  dist::Status status_;
};

}  // namespace nn
