// SPDX-License-Identifier: Apache-2.0
// Where a step begins and ends: images in, parameters to working copies, softmax and loss,
// gradients to the arena, loss scale.
#include <cmath>

#include "examples/nn/cudnn/launch.h"

namespace nn::cudnn {
namespace {

template <typename T>
__global__ void import_map(const float* __restrict__ images, std::int64_t batch,
                           std::int64_t channels, std::int64_t plane, T* to) {
  const std::int64_t octets = (channels + kOctet - 1) / kOctet;
  const std::int64_t count = batch * plane * octets;
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    // Neighbouring threads take neighbouring pixels of one plane.
    const std::int64_t pixel = k % plane;
    const std::int64_t octet = k / plane % octets;
    const std::int64_t image = k / (plane * octets);
    float values[kOctet];
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      const std::int64_t channel = octet * kOctet + i;
      values[i] = channel < channels ? images[(image * channels + channel) * plane + pixel] : 0;
    }
    store(to + ((image * plane + pixel) * octets + octet) * kOctet, values);
  }
}

// Adds up or takes the largest of a value a thread; all threads get it.
template <typename Join>
__device__ float join_block(float value, const Join& join) {
  __shared__ float shared[kThreads];
  const int lane = static_cast<int>(threadIdx.x);
  __syncthreads();
  shared[lane] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) shared[lane] = join(shared[lane], shared[lane + half]);
  }
  __syncthreads();
  return shared[0];
}

// A block an image.
template <typename T>
__global__ void softmax_map(SoftmaxLossCall t) {
  const std::int64_t image = blockIdx.x;
  const auto classes = static_cast<int>(t.classes);
  const T* x = static_cast<const T*>(t.x.data) + image * t.x.pitch;
  const int lane = static_cast<int>(threadIdx.x);
  float largest = -INFINITY;
  for (int c = lane; c < classes; c += kThreads) largest = fmaxf(largest, value_of(x[c]));
  largest = join_block(largest, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0;
  for (int c = lane; c < classes; c += kThreads) sum += expf(value_of(x[c]) - largest);
  sum = join_block(sum, [](float a, float b) { return a + b; });

  // Which class it is; the first of equal ones. As floats: exact up to 2^24.
  float best = INFINITY;
  for (int c = lane; c < classes; c += kThreads) {
    if (value_of(x[c]) == largest) best = fminf(best, static_cast<float>(c));
  }
  best = join_block(best, [](float a, float b) { return fminf(a, b); });

  const int label = t.labels[image];
  if (lane == 0) {
    const bool known = label >= 0 && label < classes;
    t.losses[t.batch + image] = best == static_cast<float>(label) ? 1 : 0;
    t.losses[image] = known ? static_cast<double>(largest) + log(static_cast<double>(sum)) -
                                  static_cast<double>(value_of(x[label]))
                            : static_cast<double>(NAN);
  }
  if (t.dx.data == nullptr) return;
  const float scale = t.state->loss_scale.scale / static_cast<float>(t.batch);
  T* dx = static_cast<T*>(t.dx.data) + image * t.dx.pitch;
  const int filled = (classes + kOctet - 1) / kOctet * kOctet;
  for (int c = lane; c < filled; c += kThreads) {
    float gradient = 0;
    if (c < classes) {
      gradient = (expf(value_of(x[c]) - largest) / sum - (c == label ? 1.0f : 0.0f)) * scale;
    }
    put_value(dx + c, gradient);
  }
}

__global__ void mean_loss(SoftmaxLossCall t) {
  __shared__ double shared[2][kThreads];
  const int lane = static_cast<int>(threadIdx.x);
  double sums[2] = {0, 0};
  for (std::int64_t i = lane; i < t.batch; i += kThreads) {
    sums[0] += t.losses[i];
    sums[1] += t.losses[t.batch + i];
  }
  shared[0][lane] = sums[0];
  shared[1][lane] = sums[1];
  __syncthreads();
  if (lane != 0) return;
  for (int i = 1; i < kThreads; ++i) {
    sums[0] += shared[0][i];
    sums[1] += shared[1][i];
  }
  t.state->loss = sums[0] / static_cast<double>(t.batch);
  t.state->accuracy = sums[1] / static_cast<double>(t.batch);
}

template <typename T>
__global__ void round_map(Pieces pieces) {
  const Piece piece = pieces.pieces[blockIdx.x];
  const std::uint32_t elements = pieces.elements[blockIdx.x];
  for (std::uint32_t i = threadIdx.x * kOctet; i < elements; i += kThreads * kOctet) {
    float values[kOctet];
    load(piece.values + i, values);
    store(static_cast<T*>(piece.copy) + i, values);
  }
}

template <typename T>
__global__ void export_map(Pieces pieces, StepState* state) {
  const Piece piece = pieces.pieces[blockIdx.x];
  const std::uint32_t elements = pieces.elements[blockIdx.x];
  const float inverse = state->loss_scale.inverse;
  unsigned bad = 0;
  for (std::uint32_t i = threadIdx.x * kOctet; i < elements; i += kThreads * kOctet) {
    float values[kOctet];
    if (piece.copy != nullptr) {
      load(static_cast<const T*>(piece.copy) + i, values);
#pragma unroll
      for (int k = 0; k < kOctet; ++k) values[k] *= inverse;
      store(piece.values + i, values);
    } else {
      load(piece.values + i, values);
    }
#pragma unroll
    for (int k = 0; k < kOctet; ++k)
      bad += values[k] - values[k] == 0 ? 0 : 1;  // not so for inf and NaN
  }
  if (bad != 0) atomicAdd(&state->overflow, bad);
}

__global__ void begin_map(StepState* state) {
  ++state->step;
  state->overflow = 0;
}

__global__ void end_map(StepState* state) {
  state->loss_scale = next_loss_scale(state->loss_scale, state->overflow != 0);
}

}  // namespace

void import_images(dist::Stream stream, Element element, const float* images, std::int64_t batch,
                   std::int64_t channels, std::int64_t pixels, void* to) {
  const std::int64_t octets = (channels + kOctet - 1) / kOctet;
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("import_map", import_map<T>, grid_for(batch * pixels * octets), kThreads, stream, images,
           batch, channels, pixels, static_cast<T*>(to));
  });
}

void softmax_loss(dist::Stream stream, Element element, const SoftmaxLossCall& t) {
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("softmax_map", softmax_map<T>, dim3(static_cast<unsigned>(t.batch)), kThreads, stream,
           t);
  });
  launch("mean_loss", mean_loss, dim3(1), kThreads, stream, t);
}

void round_values(dist::Stream stream, Element element, const Pieces& pieces) {
  if (pieces.count == 0) return;
  with_type(element, [&](auto* type) {
    launch("round_map", round_map<std::remove_pointer_t<decltype(type)>>,
           dim3(static_cast<unsigned>(pieces.count)), kThreads, stream, pieces);
  });
}

void export_gradients(dist::Stream stream, Element element, const Pieces& pieces,
                      StepState* state) {
  if (pieces.count == 0) return;
  with_type(element, [&](auto* type) {
    launch("export_map", export_map<std::remove_pointer_t<decltype(type)>>,
           dim3(static_cast<unsigned>(pieces.count)), kThreads, stream, pieces, state);
  });
}

void begin_step(dist::Stream stream, StepState* state) {
  launch("begin_map", begin_map, dim3(1), 1, stream, state);
}

void end_step(dist::Stream stream, StepState* state) {
  launch("end_map", end_map, dim3(1), 1, stream, state);
}

}  // namespace nn::cudnn
