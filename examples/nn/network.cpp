// SPDX-License-Identifier: Apache-2.0
// What all backends share: the initial values, and the hash of plain layouts.
#include "examples/nn/network.h"

#include <array>

#include "examples/nn/random.h"

namespace nn {

std::string_view name_of(Precision precision) {
  static constexpr std::array<std::string_view, 4> kNames{"f32", "tf32", "f16", "bf16"};
  return kNames[static_cast<std::size_t>(precision)];
}

void Network::initialize(std::uint64_t seed) {
  const std::vector<std::size_t> order = graph().backward_order();
  for (std::size_t i = 0; i < order.size(); ++i) {
    set_plain_parameter(i, initial_values(graph().parameters[order[i]], seed));
  }
}

std::uint64_t Network::layout_hash() const {
  std::uint64_t hash = 0;
  for (const dist::Parameter& parameter : parameters()) {
    hash = mix64(hash ^ stream_of(parameter.name)) + parameter.elements.value;
    hash = mix64(hash ^ stream_of(dist::name_of(parameter.dtype)));
  }
  return hash;
}

}  // namespace nn
