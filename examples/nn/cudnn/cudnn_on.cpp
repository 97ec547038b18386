// SPDX-License-Identifier: Apache-2.0
// The backend on a machine with CUDA.
#include "examples/nn/backends.h"
#include "examples/nn/cudnn/cuda_library.h"
#include "examples/nn/cudnn/failure.h"
#include "examples/nn/cudnn/net.h"

namespace nn {

dist::Result<std::unique_ptr<Network>> make_cudnn_network(const Graph& graph,
                                                          const NetworkOptions& options) {
  DIST_TRY_BECAUSE(dist::device_available(), "backend cudnn");
  if (options.device == nullptr) {
    return dist::Status::invalid_argument("backend cudnn: no device was opened for it");
  }
  try {
    auto library =
        cudnn::open_cuda_library(*options.device, options.stream, cudnn::arithmetic_of(options));
    return cudnn::make_network(graph, options, std::move(library));
  } catch (const cudnn::Failure& failure) {
    return dist::Status::unavailable(std::string("backend cudnn: ") + failure.what());
  }
}

}  // namespace nn
