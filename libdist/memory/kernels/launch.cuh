// SPDX-License-Identifier: Apache-2.0
// Runs the programs of device_programs.h.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "libdist/memory/device_kernels.h"
#include "libdist/memory/device_programs.h"

namespace dist::device {

template <typename Program>
__global__ void __launch_bounds__(kThreads) run(const Program program) {
  program(std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x,
          std::uint64_t{gridDim.x} * blockDim.x);
}

// The error comes back from the launch itself: the thread's last error may be an older one.
template <typename... Parameters, typename... Arguments>
int start(const Launch& launch, std::uint32_t blocks, void (*kernel)(Parameters...),
          Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(launch.stream);
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

/// As many threads as there are pieces of work, up to what the GPU runs at once.
template <typename Program>
int start(const Launch& launch, std::uint64_t pieces, const Program& program) {
  if (pieces == 0) return cudaSuccess;
  return start(launch, blocks_for(pieces, launch.most_blocks), &run<Program>, program);
}

template <typename Pointer>
Placed placed(Pointer* span, std::uint64_t elem_bytes) {
  return {reinterpret_cast<std::uintptr_t>(span), elem_bytes};
}

inline std::uint64_t pieces_of(const Split& split) {
  return split.vectors > split.singles() ? split.vectors : split.singles();
}

/// Calls body(T()) for the type of a DType.
template <typename Body>
int for_float(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f32:
      return body(float());
    case DType::f64:
      return body(double());
    case DType::f16:
      return body(Half());
    case DType::bf16:
      return body(BFloat16());
    default:
      return cudaErrorInvalidValue;
  }
}

template <typename Body>
int for_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::i8:
      return body(std::int8_t());
    case DType::i16:
      return body(std::int16_t());
    case DType::i32:
      return body(std::int32_t());
    case DType::i64:
      return body(std::int64_t());
    case DType::u8:
      return body(std::uint8_t());
    case DType::u16:
      return body(std::uint16_t());
    case DType::u32:
      return body(std::uint32_t());
    case DType::u64:
      return body(std::uint64_t());
    default:
      return for_float(dtype, body);
  }
}

}  // namespace dist::device
