// SPDX-License-Identifier: Apache-2.0
// How a parameter lies in the arena: weights [out, height, width, channels] (ohwi) with the input
// channels padded, dense weights alike over the shape that they read, and everything with the
// outputs padded. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "examples/nn/cudnn/plan.h"

namespace nn::cudnn {

class ParameterLayout {
 public:
  /// Of parameter `index` of the graph.
  static ParameterLayout of(const Graph& graph, std::size_t index);

  std::uint64_t elements() const;
  std::vector<float> from_plain(std::span<const double> values) const;
  std::vector<double> to_plain(std::span<const float> values) const;

 private:
  ParameterLayout(std::int64_t outs, Shape taps, bool weight)
      : outs_(outs), taps_(taps), pitch_(weight ? padded(taps.channels) : 1) {}
  template <typename Visit>
  void for_each(const Visit& visit) const;

  std::int64_t outs_;
  Shape taps_;  // what one output reads: channels, height, width
  std::int64_t pitch_;
};

}  // namespace nn::cudnn
