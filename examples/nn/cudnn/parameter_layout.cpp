// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/parameter_layout.h"

#include "libdist/check.h"

namespace nn::cudnn {

ParameterLayout ParameterLayout::of(const Graph& graph, std::size_t index) {
  const ParameterInfo& info = graph.parameters[index];
  if (info.dims.size() == 1) return {info.dims[0], {1, 1, 1}, false};
  if (info.dims.size() == 4)
    return {info.dims[0], {info.dims[1], info.dims[2], info.dims[3]}, true};
  return {info.dims[0], graph.shape_of_input(graph.nodes[info.node]), true};
}

std::uint64_t ParameterLayout::elements() const {
  return static_cast<std::uint64_t>(padded(outs_) * taps_.height * taps_.width * pitch_);
}

// (plain index, index in the arena) of every value.
template <typename Visit>
void ParameterLayout::for_each(const Visit& visit) const {
  std::size_t plain = 0;
  for (std::int64_t o = 0; o < outs_; ++o) {
    for (std::int64_t c = 0; c < taps_.channels; ++c) {
      for (std::int64_t h = 0; h < taps_.height; ++h) {
        for (std::int64_t w = 0; w < taps_.width; ++w) {
          const std::int64_t pixel = (o * taps_.height + h) * taps_.width + w;
          visit(plain++, static_cast<std::size_t>(pixel * pitch_ + c));
        }
      }
    }
  }
}

std::vector<float> ParameterLayout::from_plain(std::span<const double> values) const {
  DIST_ASSERT(static_cast<std::int64_t>(values.size()) == outs_ * taps_.elements(),
              "a parameter of another size");
  std::vector<float> laid(elements(), 0.0f);
  for_each(
      [&](std::size_t plain, std::size_t at) { laid[at] = static_cast<float>(values[plain]); });
  return laid;
}

std::vector<double> ParameterLayout::to_plain(std::span<const float> values) const {
  DIST_ASSERT(values.size() == elements(), "a parameter of another size");
  std::vector<double> plain_values(static_cast<std::size_t>(outs_ * taps_.elements()));
  for_each([&](std::size_t plain, std::size_t at) {
    plain_values[plain] = static_cast<double>(values[at]);
  });
  return plain_values;
}

}  // namespace nn::cudnn
