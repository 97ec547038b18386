// SPDX-License-Identifier: Apache-2.0
// Stands in where CUDA or cuDNN is missing.
#include "examples/nn/backends.h"

namespace nn {

dist::Result<std::unique_ptr<Network>> make_cudnn_network(const Graph&, const NetworkOptions&) {
  return dist::Status::unavailable(
      "backend cudnn is not in this build: CMake found no CUDA Toolkit or no cuDNN");
}

}  // namespace nn
