// SPDX-License-Identifier: Apache-2.0
// Runs a CUDA kernel on the host: included before a kernel's source, which is then compiled as C++.
// The blocks of a launch run one after another, the threads of a block as coroutines of one thread,
// each until it ends or comes to __syncthreads(), which must be called by all that have not ended.
// __shared__ variables are static: one block runs at a time. Launches are enqueued on a FakeDevice.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <vector>

#include "libdist/memory/device.h"

#undef __shared__
#define __shared__ static

namespace host_grid {

struct Position {
  uint3 thread, block;
  dim3 threads, blocks;
};
/// Of the coroutine that runs.
const Position& position();
void synchronize_threads();
/// Submits body for all threads of all blocks.
void enqueue(const cudaLaunchConfig_t& config, std::function<void()> body);

/// Enqueues work on a FakeDevice's stream; while this thread records, keeps it instead.
using Work = std::function<void()>;
void submit(dist::Stream stream, Work work);
void begin_recording();
std::vector<Work> end_recording();

}  // namespace host_grid

inline const uint3& threadIdx = host_grid::position().thread;
inline const uint3& blockIdx = host_grid::position().block;
inline const dim3& blockDim = host_grid::position().threads;
inline const dim3& gridDim = host_grid::position().blocks;

inline void __syncthreads() { host_grid::synchronize_threads(); }
inline unsigned atomicAdd(unsigned* to, unsigned value) {
  const unsigned before = *to;
  *to += value;
  return before;
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch_on_host(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                           const Arguments&... arguments) {
  host_grid::enqueue(*config, [=] { kernel(arguments...); });
  return cudaSuccess;
}
#define cudaLaunchKernelEx launch_on_host
