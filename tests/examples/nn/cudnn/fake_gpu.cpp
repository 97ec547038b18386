// SPDX-License-Identifier: Apache-2.0
// Linked in front of the libraries: the only GPU of the machine is a FakeDevice, and the backend
// cudnn runs its kernels on the host.
#include <fmt/format.h>

#include "examples/nn/backends.h"
#include "examples/nn/cudnn/net.h"
#include "tests/examples/nn/cudnn/host_library.h"
#include "tests/support/fake_device.h"

namespace dist {

Status device_available() { return {}; }

int device_count() { return 1; }

Result<std::unique_ptr<Device>> open_device(int index) {
  if (index != 0) return Status::unavailable(fmt::format("there is no fake GPU {}", index));
  return std::unique_ptr<Device>(std::make_unique<test::FakeDevice>());
}

}  // namespace dist

namespace nn {

dist::Result<std::unique_ptr<Network>> make_cudnn_network(const Graph& graph,
                                                          const NetworkOptions& options) {
  static cudnn::test::HostLibraryCounts counts;
  return cudnn::make_network(
      graph, options,
      cudnn::test::make_host_library({cudnn::arithmetic_of(options), true}, &counts));
}

}  // namespace nn
