// SPDX-License-Identifier: Apache-2.0
// A network bound to an arena of its own, for tests.
#pragma once

#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "examples/nn/network.h"
#include "libdist/bucket/arena.h"

namespace nn::test {

/// Destroyed from the last member to the first.
struct Replica {
  std::unique_ptr<dist::Device> device;  ///< null on the host
  dist::Arena arena;
  std::unique_ptr<Network> network;

  Network* operator->() const { return network.get(); }
};

/// The backend cudnn gets the first GPU and a stream of its own.
inline dist::Result<Replica> try_replica(std::string_view backend, const Graph& graph,
                                         NetworkOptions options) {
  std::unique_ptr<dist::Device> device;
  if (backend == "cudnn") {
    auto opened = dist::open_device(0);
    DIST_TRY(opened);
    device = *std::move(opened);
    auto stream = device->make_stream(dist::StreamPriority::normal);
    DIST_TRY(stream);
    options.device = device.get();
    options.stream = *stream;
  }
  auto network = make_network(backend, graph, options);
  DIST_TRY(network);
  auto arena = dist::Arena::create((*network)->parameters(),
                                   {.device = options.device, .stream = options.stream});
  DIST_TRY(arena);
  std::vector<std::span<std::byte>> parameters;
  std::vector<std::span<std::byte>> gradients;
  for (std::size_t i = 0; i < arena->parameter_count(); ++i) {
    parameters.push_back(arena->parameters(arena->range(i)));
    gradients.push_back(arena->gradients(arena->range(i)));
  }
  DIST_TRY((*network)->bind(std::move(parameters), std::move(gradients)));
  return Replica{std::move(device), std::move(*arena), std::move(*network)};
}

/// Whether `status` of try_replica() only says that the build has no such backend, or the machine
/// no GPU. What a GPU that is there cannot do is a failure, not a reason to skip.
inline bool is_absent(std::string_view backend, const Graph& graph, const dist::Status& status) {
  if (status.code() != dist::ErrorCode::unavailable) return false;
  if (backend != "cudnn" || !dist::device_available().ok()) return true;
  // A backend that is there misses nothing but the device.
  return make_network(backend, graph, {}).status().code() == dist::ErrorCode::unavailable;
}

/// Throws where try_replica fails.
inline Replica make_replica(std::string_view backend, const Graph& graph,
                            const NetworkOptions& options) {
  return try_replica(backend, graph, options).value();
}

/// The loss of a forward pass whose parameters come when they are awaited and are not numbers
/// before. Counts the calls of each parameter.
inline double forward_awaiting(Network& network, const Batch& batch, std::vector<int>* calls) {
  std::vector<std::vector<double>> values;
  for (std::size_t i = 0; i < network.parameters().size(); ++i) {
    values.push_back(network.plain_parameter(i));
    const std::vector<double> poison(values[i].size(), std::numeric_limits<double>::quiet_NaN());
    network.set_plain_parameter(i, poison);
  }
  calls->assign(values.size(), 0);
  return network.forward(batch, Mode::train, [&](std::size_t i) {
    ++calls->at(i);
    network.set_plain_parameter(i, values[i]);
  });
}

}  // namespace nn::test
