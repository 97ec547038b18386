// SPDX-License-Identifier: Apache-2.0
// For kernels: eight values of a tensor as f32, and launching. Also compiled for the host, where
// tests run the kernels thread by thread.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "examples/nn/cudnn/failure.h"
#include "examples/nn/cudnn/kernels.h"

namespace nn::cudnn {

inline constexpr int kThreads = 256;
inline constexpr int kOctet = 8;

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned threads,
            dist::Stream stream, const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = static_cast<cudaStream_t>(stream.handle);
  const cudaError_t code =
      cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  if (code == cudaSuccess) return;
  throw Failure(std::string("kernel ") + name + ": " + cudaGetErrorName(code) + ", " +
                cudaGetErrorString(code));
}

/// Blocks for `work` threads that each may take several turns.
inline dim3 grid_for(std::int64_t work) {
  constexpr std::int64_t kMostBlocks = 8192;
  const std::int64_t blocks = (work + kThreads - 1) / kThreads;
  return dim3(static_cast<unsigned>(std::clamp(blocks, std::int64_t{1}, kMostBlocks)));
}

/// Calls body with a null pointer to the C++ type of the elements.
template <typename Body>
void with_type(Element element, const Body& body) {
  if (element == Element::f32) {
    body(static_cast<float*>(nullptr));
  } else if (element == Element::f16) {
    body(static_cast<__half*>(nullptr));
  } else {
    body(static_cast<__nv_bfloat16*>(nullptr));
  }
}

// Sixteen bytes a load: the addresses are multiples of sixteen because pitches and first channels
// are multiples of eight.
__device__ inline void load(const float* from, float (&to)[kOctet]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}
__device__ inline void store(float* to, const float (&from)[kOctet]) {
  reinterpret_cast<float4*>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}
__device__ inline float2 widen(__half2 pair) { return __half22float2(pair); }
__device__ inline float2 widen(__nv_bfloat162 pair) { return __bfloat1622float2(pair); }
__device__ inline void narrow(float low, float high, __half2* pair) {
  *pair = __floats2half2_rn(low, high);
}
__device__ inline void narrow(float low, float high, __nv_bfloat162* pair) {
  *pair = __floats2bfloat162_rn(low, high);
}
template <typename Pair>
__device__ inline void load_pairs(const void* from, float (&to)[kOctet]) {
  union {
    uint4 raw;
    Pair pairs[4];
  } words = {*static_cast<const uint4*>(from)};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 wide = widen(words.pairs[i]);
    to[2 * i] = wide.x;
    to[2 * i + 1] = wide.y;
  }
}
template <typename Pair>
__device__ inline void store_pairs(void* to, const float (&from)[kOctet]) {
  union {
    uint4 raw;
    Pair pairs[4];
  } words = {make_uint4(0, 0, 0, 0)};
#pragma unroll
  for (int i = 0; i < 4; ++i) narrow(from[2 * i], from[2 * i + 1], &words.pairs[i]);
  *static_cast<uint4*>(to) = words.raw;
}
__device__ inline void load(const __half* from, float (&to)[kOctet]) {
  load_pairs<__half2>(from, to);
}
__device__ inline void store(__half* to, const float (&from)[kOctet]) {
  store_pairs<__half2>(to, from);
}
__device__ inline void load(const __nv_bfloat16* from, float (&to)[kOctet]) {
  load_pairs<__nv_bfloat162>(from, to);
}
__device__ inline void store(__nv_bfloat16* to, const float (&from)[kOctet]) {
  store_pairs<__nv_bfloat162>(to, from);
}

__device__ inline float value_of(float x) { return x; }
__device__ inline float value_of(__half x) { return __half2float(x); }
__device__ inline float value_of(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void put_value(float* to, float x) { *to = x; }
__device__ inline void put_value(__half* to, float x) { *to = __float2half_rn(x); }
__device__ inline void put_value(__nv_bfloat16* to, float x) { *to = __float2bfloat16_rn(x); }

/// A Target as a kernel sees it.
template <typename T>
struct Sink {
  T* data;
  std::int64_t pitch;
  bool add;

  explicit Sink(const Target& target)
      : data(static_cast<T*>(target.view.data)), pitch(target.view.pitch), add(target.add) {}
  __device__ void put(std::int64_t pixel, int channel, float (&values)[kOctet]) const {
    T* to = data + pixel * pitch + channel;
    if (add) {
      float before[kOctet];
      load(to, before);
#pragma unroll
      for (int i = 0; i < kOctet; ++i) values[i] += before[i];
    }
    store(to, values);
  }
};

template <typename T>
struct Source {
  const T* data;
  std::int64_t pitch;

  explicit Source(const View& view) : data(static_cast<const T*>(view.data)), pitch(view.pitch) {}
  __device__ void get(std::int64_t pixel, int channel, float (&values)[kOctet]) const {
    load(data + pixel * pitch + channel, values);
  }
};

template <typename T>
Sink<T> sink_of(const View& view) {
  return Sink<T>(Target{view, false});
}

}  // namespace nn::cudnn
