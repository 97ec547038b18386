// SPDX-License-Identifier: Apache-2.0
// Bias, ReLU, add, copies and dropout.
#include "examples/nn/cudnn/columns.h"
#include "examples/nn/random.h"

namespace nn::cudnn {
namespace {

constexpr int kTurnsToSum = 8;
constexpr int kTurnsToMap = 2;
constexpr int kMapBlocks = 8192;

template <typename T>
__global__ void bias_map(Columns columns, T* y, std::int64_t pitch, const float* bias, bool relu) {
  int octet;
  std::int64_t pixel;
  if (!columns.begin(&octet, &pixel)) return;
  float shift[kOctet] = {};
  if (bias != nullptr) load(bias + octet * kOctet, shift);
  for (; pixel < columns.pixels; pixel += columns.stride()) {
    T* at = y + pixel * pitch + octet * kOctet;
    float values[kOctet];
    load(at, values);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      values[i] += shift[i];
      if (relu && values[i] <= 0) values[i] = 0;
    }
    store(at, values);
  }
}

template <typename T>
__global__ void bias_gradient(Columns columns, T* dy, std::int64_t pitch, Source<T> y,
                              float* scratch) {
  int octet;
  std::int64_t pixel;
  float sums[kOctet] = {};
  const float nothing[kOctet] = {};
  if (columns.begin(&octet, &pixel)) {
    for (; pixel < columns.pixels; pixel += columns.stride()) {
      T* at = dy + pixel * pitch + octet * kOctet;
      float gradients[kOctet];
      load(at, gradients);
      if (y.data != nullptr) {
        float outputs[kOctet];
        y.get(pixel, octet * kOctet, outputs);
#pragma unroll
        for (int i = 0; i < kOctet; ++i) gradients[i] = outputs[i] > 0 ? gradients[i] : 0;
        store(at, gradients);
      }
#pragma unroll
      for (int i = 0; i < kOctet; ++i) sums[i] += gradients[i];
    }
  }
  if (scratch != nullptr) sum_block(columns, sums, nothing, scratch);
}

__global__ void bias_total(const float* scratch, int rows, int channels, float* dbias,
                           const StepState* state) {
  int channel;
  double sum, unused;
  if (!sum_blocks(scratch, rows, channels, &channel, &sum, &unused)) return;
  dbias[channel] = static_cast<float>(sum * static_cast<double>(state->loss_scale.inverse));
}

template <typename T>
__global__ void add_map(Columns columns, Source<T> a, Source<T> b, Sink<T> y, bool relu) {
  int octet;
  std::int64_t pixel;
  if (!columns.begin(&octet, &pixel)) return;
  for (; pixel < columns.pixels; pixel += columns.stride()) {
    float values[kOctet];
    a.get(pixel, octet * kOctet, values);
    if (b.data != nullptr) {
      float others[kOctet];
      b.get(pixel, octet * kOctet, others);
#pragma unroll
      for (int i = 0; i < kOctet; ++i) values[i] += others[i];
    }
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      if (relu && values[i] <= 0) values[i] = 0;
    }
    y.put(pixel, octet * kOctet, values);
  }
}

template <typename T>
__global__ void pass_map(Columns columns, Source<T> dy, Source<T> y, Sink<T> dx) {
  int octet;
  std::int64_t pixel;
  if (!columns.begin(&octet, &pixel)) return;
  for (; pixel < columns.pixels; pixel += columns.stride()) {
    float gradients[kOctet];
    dy.get(pixel, octet * kOctet, gradients);
    if (y.data != nullptr) {
      float outputs[kOctet];
      y.get(pixel, octet * kOctet, outputs);
#pragma unroll
      for (int i = 0; i < kOctet; ++i) gradients[i] = outputs[i] > 0 ? gradients[i] : 0;
    }
    dx.put(pixel, octet * kOctet, gradients);
  }
}

template <typename T>
__global__ void copy_map(Extent extent, Source<T> from, Sink<T> to, std::int64_t filled) {
  const std::int64_t count = extent.pixels * filled;
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t pixel = k / filled;
    const std::int64_t channel = k % filled;
    T* at = to.data + pixel * to.pitch + channel;
    float value = channel < extent.channels ? value_of(from.data[pixel * from.pitch + channel]) : 0;
    if (to.add) value += value_of(*at);
    put_value(at, value);
  }
}

template <typename T>
__global__ void dropout_map(DropoutShape s, Source<T> x, Sink<T> y, std::uint8_t* mask,
                            const StepState* state) {
  const std::int64_t octets = (s.channels + kOctet - 1) / kOctet;
  const std::int64_t plane = s.height * s.width;
  const std::int64_t count = s.batch * plane * octets;
  const std::uint64_t stream = mix64(mix64(s.node) + state->step);
  const auto kept = static_cast<float>(1.0 / (1.0 - s.rate));
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t pixel = k / octets;
    const int channel = static_cast<int>(k % octets) * kOctet;
    float values[kOctet];
    x.get(pixel, channel, values);
    unsigned keep = 0;
    for (int i = 0; i < kOctet; ++i) {
      // The element's index in plain nchw order, so that all backends drop the same.
      const std::int64_t plain = (pixel / plane * s.channels + channel + i) * plane + pixel % plane;
      const bool keeps = s.rate == 0 || random_uniform(s.seed, stream,
                                                       static_cast<std::uint64_t>(plain)) >= s.rate;
      keep |= keeps ? 1u << i : 0u;
      values[i] = keeps ? values[i] * kept : 0;
    }
    y.put(pixel, channel, values);
    mask[k] = static_cast<std::uint8_t>(keep);
  }
}

template <typename T>
__global__ void dropout_gradient(DropoutShape s, Source<T> dy, const std::uint8_t* mask,
                                 Sink<T> dx) {
  const std::int64_t octets = (s.channels + kOctet - 1) / kOctet;
  const std::int64_t count = s.batch * s.height * s.width * octets;
  const auto kept = static_cast<float>(1.0 / (1.0 - s.rate));
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    const int channel = static_cast<int>(k % octets) * kOctet;
    const unsigned keep = mask[k];
    float values[kOctet];
    dy.get(k / octets, channel, values);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) values[i] = (keep >> i & 1u) != 0 ? values[i] * kept : 0;
    dx.put(k / octets, channel, values);
  }
}

}  // namespace

void add_bias(dist::Stream stream, Element element, Extent extent, View y, const float* bias,
              bool relu) {
  const Columns columns(extent);
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("bias_map", bias_map<T>, columns.grid(kTurnsToMap, kMapBlocks), kThreads, stream,
           columns, static_cast<T*>(y.data), y.pitch, bias, relu);
  });
}

void bias_backward(dist::Stream stream, Element element, Extent extent, View dy, View y,
                   float* dbias, void* scratch, const StepState* state) {
  if (!y && dbias == nullptr) return;
  const Columns columns(extent);
  const dim3 grid = columns.grid(kTurnsToSum);
  auto* sums = dbias == nullptr ? nullptr : static_cast<float*>(scratch);
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("bias_gradient", bias_gradient<T>, grid, kThreads, stream, columns,
           static_cast<T*>(dy.data), dy.pitch, Source<T>(y), sums);
  });
  if (dbias == nullptr) return;
  launch("bias_total", bias_total, sum_grid(extent.channels), kSumThreads, stream, sums,
         static_cast<int>(grid.y), static_cast<int>(extent.channels), dbias, state);
}

void add(dist::Stream stream, Element element, Extent extent, View a, View b, View y, bool relu) {
  const Columns columns(extent);
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("add_map", add_map<T>, columns.grid(kTurnsToMap, kMapBlocks), kThreads, stream, columns,
           Source<T>(a), Source<T>(b), sink_of<T>(y), relu);
  });
}

void pass_gradient(dist::Stream stream, Element element, Extent extent, View dy, View y,
                   Target dx) {
  const Columns columns(extent);
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("pass_map", pass_map<T>, columns.grid(kTurnsToMap, kMapBlocks), kThreads, stream,
           columns, Source<T>(dy), Source<T>(y), Sink<T>(dx));
  });
}

void copy_channels(dist::Stream stream, Element element, Extent extent, View from, Target to,
                   std::int64_t filled) {
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("copy_map", copy_map<T>, grid_for(extent.pixels * filled), kThreads, stream, extent,
           Source<T>(from), Sink<T>(to), filled);
  });
}

void dropout(dist::Stream stream, Element element, const DropoutShape& s, View x, View y,
             std::uint8_t* mask, const StepState* state) {
  const std::int64_t octets = s.batch * s.height * s.width * ((s.channels + kOctet - 1) / kOctet);
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("dropout_map", dropout_map<T>, grid_for(octets), kThreads, stream, s, Source<T>(x),
           sink_of<T>(y), mask, state);
  });
}

void dropout_backward(dist::Stream stream, Element element, const DropoutShape& s, View dy,
                      const std::uint8_t* mask, Target dx) {
  const std::int64_t octets = s.batch * s.height * s.width * ((s.channels + kOctet - 1) / kOctet);
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("dropout_gradient", dropout_gradient<T>, grid_for(octets), kThreads, stream, s,
           Source<T>(dy), mask, Sink<T>(dx));
  });
}

}  // namespace nn::cudnn
