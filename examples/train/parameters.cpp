// SPDX-License-Identifier: Apache-2.0
#include "examples/train/parameters.h"

#include <fmt/format.h>

#include <bit>
#include <fstream>
#include <vector>

#include "examples/nn/random.h"

namespace train {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little endian");

// Positions in Network::parameters() (backward order), sorted by position in the graph.
std::vector<std::size_t> forward_order(const nn::Graph& graph) {
  const auto backward = graph.backward_order();
  std::vector<std::size_t> order(backward.size());
  for (std::size_t i = 0; i < backward.size(); ++i) order[backward[i]] = i;
  return order;
}

}  // namespace

std::uint64_t parameter_hash(const nn::Network& network) {
  std::uint64_t hash = 0;
  for (const std::size_t p : forward_order(network.graph())) {
    hash = nn::mix64(hash ^ nn::stream_of(network.parameters()[p].name));
    for (const double value : network.plain_parameter(p)) {
      hash = nn::mix64((hash ^ std::bit_cast<std::uint64_t>(value)) + 0x9e3779b97f4a7c15);
    }
  }
  return hash;
}

dist::Status save_parameters(const nn::Network& network, const std::string& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  for (const std::size_t p : forward_order(network.graph())) {
    const auto values = network.plain_parameter(p);
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(double)));
  }
  file.close();
  if (!file) return dist::Status::resource(fmt::format("cannot write parameters to {}", path));
  return {};
}

}  // namespace train
