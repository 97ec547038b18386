// SPDX-License-Identifier: Apache-2.0
// The cuDNN backend without a GPU: its kernels on the host, the library's part as loops, an arena
// on a FakeDevice.
#pragma once

#include <memory>

#include "examples/nn/cudnn/net.h"
#include "libdist/bucket/arena.h"
#include "tests/examples/nn/cudnn/host_library.h"
#include "tests/support/fake_device.h"

namespace nn::cudnn::test {

/// Destroyed from the last member to the first.
struct HostReplica {
  std::unique_ptr<dist::test::FakeDevice> device;
  std::unique_ptr<HostLibraryCounts> counts = std::make_unique<HostLibraryCounts>();
  dist::Arena arena;
  std::unique_ptr<Network> network;

  Network* operator->() const { return network.get(); }
};

/// `options` without device and stream.
inline HostReplica make_host_replica(const Graph& graph, NetworkOptions options,
                                     bool records = true) {
  auto device = std::make_unique<dist::test::FakeDevice>();
  auto counts = std::make_unique<HostLibraryCounts>();
  options.device = device.get();
  options.stream = device->make_stream(dist::StreamPriority::normal).value();
  auto network = make_network(graph, options,
                              make_host_library({arithmetic_of(options), records}, counts.get()))
                     .value();
  auto arena =
      dist::Arena::create(network->parameters(), {.device = device.get(), .stream = options.stream})
          .value();
  std::vector<std::span<std::byte>> parameters, gradients;
  for (std::size_t i = 0; i < arena.parameter_count(); ++i) {
    parameters.push_back(arena.parameters(arena.range(i)));
    gradients.push_back(arena.gradients(arena.range(i)));
  }
  const dist::Status bound = network->bind(std::move(parameters), std::move(gradients));
  if (!bound.ok()) throw std::runtime_error(bound.message());
  return {std::move(device), std::move(counts), std::move(arena), std::move(network)};
}

}  // namespace nn::cudnn::test
