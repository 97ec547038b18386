// SPDX-License-Identifier: Apache-2.0
// Return codes of the three libraries become Failures. Only sources that need CUDA include this.
#pragma once

#include <cuda_runtime.h>
#include <cudnn.h>

#include <string>

#include "examples/nn/cudnn/cublas_lt.h"
#include "examples/nn/cudnn/failure.h"
#include "libdist/memory/device.h"

namespace nn::cudnn {

inline cudaStream_t handle_of(dist::Stream stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

inline void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  throw Failure(std::string(call) + ": " + cudaGetErrorName(code) + ", " +
                cudaGetErrorString(code));
}
inline void check(cudnnStatus_t code, const char* call) {
  if (code == CUDNN_STATUS_SUCCESS) return;
  char detail[512] = {};
  cudnnGetLastErrorString(detail, sizeof detail - 1);
  throw Failure(std::string(call) + ": " + cudnnGetErrorString(code) + ", " + detail);
}
inline void check(cublasStatus_t code, const char* call) {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  throw Failure(std::string(call) + ": " + cublas_lt().status_string(code));
}

}  // namespace nn::cudnn
