// SPDX-License-Identifier: Apache-2.0
// Batch norm in two passes over memory forward (sums; y) and two backward (sums; dx and dz), each
// with a small kernel between that turns sums into numbers a channel. Sums are of differences to
// the channel's first pixel: the variance of values far from zero is not lost.
#include "examples/nn/cudnn/columns.h"

namespace nn::cudnn {
namespace {

constexpr int kTurnsToSum = 8;
constexpr int kTurnsToMap = 2;
constexpr int kMapBlocks = 8192;

template <typename T>
__global__ void norm_sums(Columns columns, Source<T> x, float* scratch) {
  int octet;
  std::int64_t pixel;
  float sums[kOctet] = {};
  float squares[kOctet] = {};
  if (columns.begin(&octet, &pixel)) {
    float origin[kOctet];
    x.get(0, octet * kOctet, origin);
#pragma unroll 4
    for (; pixel < columns.pixels; pixel += columns.stride()) {
      float values[kOctet];
      x.get(pixel, octet * kOctet, values);
#pragma unroll
      for (int i = 0; i < kOctet; ++i) {
        const float d = values[i] - origin[i];
        sums[i] += d;
        squares[i] += d * d;
      }
    }
  }
  sum_block(columns, sums, squares, scratch);
}

template <typename T>
__global__ void norm_statistics(NormForward t, int rows) {
  int channel;
  double sum, squares;
  const int channels = static_cast<int>(t.extent.channels);
  if (!sum_blocks(static_cast<const float*>(t.scratch), rows, channels, &channel, &sum, &squares)) {
    return;
  }
  const double n = static_cast<double>(t.extent.pixels);
  const double origin = static_cast<double>(value_of(static_cast<const T*>(t.x.data)[channel]));
  const double shift = sum / n;
  const double mean = origin + shift;
  const double about_mean = fmax(squares - sum * shift, 0.0);
  const double inverse = 1 / sqrt(about_mean / n + t.epsilon);
  const double unbiased = about_mean / fmax(n - 1, 1.0);
  const double before = static_cast<double>(t.running_mean[channel]);
  const double variance_before = static_cast<double>(t.running_variance[channel]);
  t.running_mean[channel] = static_cast<float>(before + t.momentum * (mean - before));
  t.running_variance[channel] =
      static_cast<float>(variance_before + t.momentum * (unbiased - variance_before));
  const double scale = static_cast<double>(t.gamma[channel]) * inverse;
  t.saved[channel] = static_cast<float>(mean);
  t.saved[channels + channel] = static_cast<float>(inverse);
  t.saved[2 * channels + channel] = static_cast<float>(scale);
  t.saved[3 * channels + channel] = t.beta[channel];
}

__global__ void norm_running(NormForward t) {
  const int channels = static_cast<int>(t.extent.channels);
  const int channel = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (channel >= channels) return;
  const double inverse = 1 / sqrt(static_cast<double>(t.running_variance[channel]) + t.epsilon);
  t.saved[channel] = t.running_mean[channel];
  t.saved[2 * channels + channel] =
      static_cast<float>(static_cast<double>(t.gamma[channel]) * inverse);
  t.saved[3 * channels + channel] = t.beta[channel];
}

template <typename T, bool kAdd, bool kRelu>
__global__ void norm_map(Columns columns, Source<T> x, Source<T> z, Sink<T> y,
                         const float* __restrict__ saved, std::uint8_t* __restrict__ mask) {
  int octet;
  std::int64_t pixel;
  if (!columns.begin(&octet, &pixel)) return;
  const int channel = octet * kOctet;
  const int channels = columns.octets * kOctet;
  float mean[kOctet], scale[kOctet], shift[kOctet];
  load(saved + channel, mean);
  load(saved + 2 * channels + channel, scale);
  load(saved + 3 * channels + channel, shift);
  for (; pixel < columns.pixels; pixel += columns.stride()) {
    float values[kOctet];
    x.get(pixel, channel, values);
    float others[kOctet];
    if (kAdd) z.get(pixel, channel, others);
    unsigned passed = 0;
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      float value = (values[i] - mean[i]) * scale[i] + shift[i];
      if (kAdd) value += others[i];
      if (kRelu) {
        // A value that is not a number passes, so that it shows.
        const bool pass = !(value <= 0);
        passed |= pass ? 1u << i : 0u;
        value = pass ? value : 0;
      }
      values[i] = value;
    }
    y.put(pixel, channel, values);
    if (kRelu && mask != nullptr) {
      mask[pixel * columns.octets + octet] = static_cast<std::uint8_t>(passed);
    }
  }
}

__device__ inline void apply_mask(const std::uint8_t* mask, std::int64_t at,
                                  float (&values)[kOctet]) {
  const unsigned passed = mask[at];
#pragma unroll
  for (int i = 0; i < kOctet; ++i) values[i] = (passed >> i & 1u) != 0 ? values[i] : 0;
}

template <typename T, bool kRelu>
__global__ void norm_gradient_sums(Columns columns, Source<T> x, Source<T> dy,
                                   const std::uint8_t* __restrict__ mask,
                                   const float* __restrict__ saved, float* scratch) {
  int octet;
  std::int64_t pixel;
  float sums[kOctet] = {};
  float dots[kOctet] = {};
  if (columns.begin(&octet, &pixel)) {
    const int channel = octet * kOctet;
    float mean[kOctet];
    load(saved + channel, mean);
#pragma unroll 4
    for (; pixel < columns.pixels; pixel += columns.stride()) {
      float values[kOctet], gradients[kOctet];
      x.get(pixel, channel, values);
      dy.get(pixel, channel, gradients);
      if (kRelu) apply_mask(mask, pixel * columns.octets + octet, gradients);
#pragma unroll
      for (int i = 0; i < kOctet; ++i) {
        sums[i] += gradients[i];
        dots[i] += gradients[i] * (values[i] - mean[i]);
      }
    }
  }
  sum_block(columns, sums, dots, scratch);
}

// dx = a * dy + b * (x - mean) + c.
__global__ void norm_coefficients(NormBackward t, int rows) {
  int channel;
  double sum, dot;
  const int channels = static_cast<int>(t.extent.channels);
  if (!sum_blocks(static_cast<const float*>(t.scratch), rows, channels, &channel, &sum, &dot)) {
    return;
  }
  const double n = static_cast<double>(t.extent.pixels);
  const double inverse = static_cast<double>(t.saved[channels + channel]);
  const double unscale = static_cast<double>(t.state->loss_scale.inverse);
  t.dgamma[channel] = static_cast<float>(dot * inverse * unscale);
  t.dbeta[channel] = static_cast<float>(sum * unscale);
  const double a = static_cast<double>(t.gamma[channel]) * inverse;
  t.coefficients[channel] = static_cast<float>(a);
  t.coefficients[channels + channel] = static_cast<float>(-a * inverse * inverse * dot / n);
  t.coefficients[2 * channels + channel] = static_cast<float>(-a * sum / n);
}

template <typename T, bool kRelu>
__global__ void norm_gradient_map(Columns columns, Source<T> x, Source<T> dy, Sink<T> dx,
                                  Sink<T> dz, const std::uint8_t* __restrict__ mask,
                                  const float* __restrict__ saved,
                                  const float* __restrict__ coefficients) {
  int octet;
  std::int64_t pixel;
  if (!columns.begin(&octet, &pixel)) return;
  const int channel = octet * kOctet;
  const int channels = columns.octets * kOctet;
  float mean[kOctet], a[kOctet], b[kOctet], c[kOctet];
  load(saved + channel, mean);
  load(coefficients + channel, a);
  load(coefficients + channels + channel, b);
  load(coefficients + 2 * channels + channel, c);
  for (; pixel < columns.pixels; pixel += columns.stride()) {
    float values[kOctet], gradients[kOctet];
    x.get(pixel, channel, values);
    dy.get(pixel, channel, gradients);
    if (kRelu) apply_mask(mask, pixel * columns.octets + octet, gradients);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      values[i] = a[i] * gradients[i] + b[i] * (values[i] - mean[i]) + c[i];
    }
    if (dx.data != nullptr) dx.put(pixel, channel, values);
    if (dz.data != nullptr) dz.put(pixel, channel, gradients);
  }
}

template <typename T>
void map_forward(dist::Stream stream, const NormForward& t) {
  const Columns columns(t.extent);
  const auto run = [&](auto* kernel) {
    launch("norm_map", kernel, columns.grid(kTurnsToMap, kMapBlocks), kThreads, stream, columns,
           Source<T>(t.x), Source<T>(t.z), sink_of<T>(t.y), t.saved, t.mask);
  };
  if (t.z && t.relu) {
    run(norm_map<T, true, true>);
  } else if (t.z) {
    run(norm_map<T, true, false>);
  } else if (t.relu) {
    run(norm_map<T, false, true>);
  } else {
    run(norm_map<T, false, false>);
  }
}

template <typename T, bool kRelu>
void backward(dist::Stream stream, const NormBackward& t) {
  const Columns columns(t.extent);
  const dim3 grid = columns.grid(kTurnsToSum);
  launch("norm_gradient_sums", norm_gradient_sums<T, kRelu>, grid, kThreads, stream, columns,
         Source<T>(t.x), Source<T>(t.dy), t.mask, t.saved, static_cast<float*>(t.scratch));
  launch("norm_coefficients", norm_coefficients, sum_grid(t.extent.channels), kSumThreads, stream,
         t, static_cast<int>(grid.y));
  if (!t.dx && !t.dz) return;
  launch("norm_gradient_map", norm_gradient_map<T, kRelu>, columns.grid(kTurnsToMap, kMapBlocks),
         kThreads, stream, columns, Source<T>(t.x), Source<T>(t.dy), Sink<T>(t.dx), Sink<T>(t.dz),
         t.mask, t.saved, t.coefficients);
}

}  // namespace

std::uint64_t sum_scratch_bytes(std::int64_t channels) {
  return static_cast<std::uint64_t>(Columns::kMostBlocks * 2 * channels) * sizeof(float);
}

void norm_train(dist::Stream stream, Element element, const NormForward& t) {
  const Columns columns(t.extent);
  const dim3 grid = columns.grid(kTurnsToSum);
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("norm_sums", norm_sums<T>, grid, kThreads, stream, columns, Source<T>(t.x),
           static_cast<float*>(t.scratch));
    launch("norm_statistics", norm_statistics<T>, sum_grid(t.extent.channels), kSumThreads, stream,
           t, static_cast<int>(grid.y));
    map_forward<T>(stream, t);
  });
}

void norm_evaluate(dist::Stream stream, Element element, const NormForward& t) {
  launch("norm_running", norm_running, grid_for(t.extent.channels), kThreads, stream, t);
  with_type(element,
            [&](auto* type) { map_forward<std::remove_pointer_t<decltype(type)>>(stream, t); });
}

void norm_backward(dist::Stream stream, Element element, const NormBackward& t) {
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (t.mask != nullptr) {
      backward<T, true>(stream, t);
    } else {
      backward<T, false>(stream, t);
    }
  });
}

}  // namespace nn::cudnn
