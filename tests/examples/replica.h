// SPDX-License-Identifier: Apache-2.0
// A network bound to an arena of its own, for tests.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "examples/nn/network.h"
#include "libdist/bucket/arena.h"

namespace nn::test {

struct Replica {
  dist::Arena arena;
  std::unique_ptr<Network> network;

  Network* operator->() const { return network.get(); }
};

inline dist::Result<Replica> try_replica(std::string_view backend, const Graph& graph,
                                         const NetworkOptions& options) {
  auto network = make_network(backend, graph, options);
  DIST_TRY(network);
  auto arena = dist::Arena::create((*network)->parameters());
  DIST_TRY(arena);
  std::vector<std::span<std::byte>> parameters;
  std::vector<std::span<std::byte>> gradients;
  for (std::size_t i = 0; i < arena->parameter_count(); ++i) {
    parameters.push_back(arena->parameters(arena->range(i)));
    gradients.push_back(arena->gradients(arena->range(i)));
  }
  DIST_TRY((*network)->bind(std::move(parameters), std::move(gradients)));
  return Replica{std::move(*arena), std::move(*network)};
}

/// Throws where try_replica fails.
inline Replica make_replica(std::string_view backend, const Graph& graph,
                            const NetworkOptions& options) {
  return try_replica(backend, graph, options).value();
}

}  // namespace nn::test
