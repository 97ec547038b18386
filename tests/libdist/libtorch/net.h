// SPDX-License-Identifier: Apache-2.0
// A small network for the tests of the adapter: convolution, two branches, a layer used under two
// names, a frozen parameter, and whatever batch norm keeps; values and data by formula.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "libdist/dist.h"

namespace dist::test {

struct TorchNet : torch::nn::Module {
  explicit TorchNet(bool with_norm = false)
      : conv(register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 4, 3)))),
        left(register_module("left", torch::nn::Linear(16, 8))),
        right(register_module("right", torch::nn::Linear(16, 8))),
        head(register_module("head", torch::nn::Linear(8, 3))),
        again(register_module("again", head.ptr())),
        scale(register_parameter("scale", torch::ones({3}), false)) {
    if (with_norm) norm = register_module("norm", torch::nn::BatchNorm2d(4));
    const torch::NoGradGuard no_grad;
    double at = 0;
    for (auto& parameter : parameters()) {
      parameter.copy_(torch::sin(torch::arange(parameter.numel()) * 0.37 + (at += 1))
                          .reshape(parameter.sizes()) *
                      0.3);
    }
  }

  /// Takes the left branch, the right one, or both.
  torch::Tensor forward(torch::Tensor x, bool use_left = true, bool use_right = true) {
    x = conv->forward(x);
    if (norm) x = norm->forward(x);
    x = torch::relu(x).flatten(1);
    auto sum = torch::zeros({x.size(0), 8}, x.options());
    if (use_left) sum = sum + left->forward(x);
    if (use_right) sum = sum + torch::tanh(right->forward(x));
    return (head->forward(sum) + again->forward(sum * sum)) * scale;
  }

  torch::nn::Conv2d conv;
  torch::nn::Linear left, right, head, again;
  torch::Tensor scale;
  torch::nn::BatchNorm2d norm = nullptr;
};

/// Several buckets even of a net as small as these.
inline Options small_buckets(const std::string& algorithm = "ring") {
  Options options;
  options.algorithm = algorithm;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 256_B;
  options.timeout = std::chrono::seconds(20);
  return options;
}

/// Samples [first, first + count) of an endless data set.
inline torch::Tensor images(int64_t first, int64_t count) {
  return torch::sin(torch::arange(first * 16, (first + count) * 16) * 0.71)
      .reshape({count, 1, 4, 4});
}

inline torch::Tensor classes(int64_t first, int64_t count) {
  return torch::arange(first, first + count).remainder(3);
}

inline torch::Tensor loss(TorchNet& net, int64_t first, int64_t count, bool left = true,
                          bool right = true) {
  const auto type = net.conv->weight.scalar_type();
  const auto log_odds =
      torch::log_softmax(net.forward(images(first, count).to(type), left, right), 1);
  return torch::nll_loss(log_odds, classes(first, count));
}

/// The parameters for an optimizer: module.parameters() names the shared ones twice, and torch's
/// optimizers would update them twice.
inline std::vector<torch::Tensor> trainable(const TorchNet& net) {
  std::vector<torch::Tensor> once;
  for (const auto& item : net.named_parameters()) {
    if (item.key().rfind("again", 0) != 0 && item.value().requires_grad()) {
      once.push_back(item.value());
    }
  }
  return once;
}

/// All elements, one tensor after the other, wherever they are.
inline std::vector<double> values(const std::vector<torch::Tensor>& tensors) {
  std::vector<double> all;
  for (const auto& tensor : tensors) {
    const auto flat = tensor.detach().cpu().to(torch::kFloat64).contiguous();
    all.insert(all.end(), flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel());
  }
  return all;
}

/// Of all parameters.
inline std::vector<double> values(const torch::nn::Module& net) { return values(net.parameters()); }

/// The largest difference, relative to the largest value.
inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = a.size() == b.size() ? 0 : 1e9;
  double size = 0;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(a[i]));
  }
  return difference / size;
}

/// Whether all ranks have the same bits.
inline bool equal_everywhere(World& world, const std::vector<double>& mine) {
  auto theirs = mine;
  auto group = make_group(world).value();
  group->broadcast(theirs).value();
  std::vector<std::int32_t> differ = {theirs == mine ? 0 : 1};
  group->all_reduce(differ).value();
  return differ[0] == 0;
}

}  // namespace dist::test
