// SPDX-License-Identifier: Apache-2.0
// This backend's own kernels. Every call enqueues work on a stream and returns. Channels are padded
// (plan.h) unless said otherwise; pointers are device memory; arithmetic is in f32. All sums have a
// fixed order. Errors: Failure.
#pragma once

#include <cstddef>
#include <cstdint>

#include "examples/nn/cudnn/loss_scale.h"
#include "libdist/memory/device.h"

namespace nn::cudnn {

/// What activations, their gradients, and weights consist of.
enum class Element : std::uint8_t { f32, f16, bf16 };
constexpr std::uint64_t bytes_of(Element element) { return element == Element::f32 ? 4 : 2; }

/// Pixel p begins at data + p * pitch elements.
struct View {
  void* data = nullptr;
  std::int64_t pitch = 0;

  explicit operator bool() const { return data != nullptr; }
};

/// What a gradient is added to, where `add`, or else overwrites.
struct Target {
  View view;
  bool add = false;

  explicit operator bool() const { return static_cast<bool>(view); }
};

struct Extent {
  std::int64_t pixels = 0;  ///< of the whole batch
  std::int64_t channels = 0;
};

/// Scratch that sums over pixels need.
std::uint64_t sum_scratch_bytes(std::int64_t channels);

// Batch norm: y = relu(gamma (x - mean) / sqrt(variance + epsilon) + beta + z).
struct NormForward {
  Extent extent;
  View x, z, y;  ///< z may be missing
  bool relu = false;
  std::uint8_t* mask = nullptr;  ///< a bit an element: the ReLU let it pass
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float* running_mean = nullptr;
  float* running_variance = nullptr;
  float* saved = nullptr;  ///< 4 * channels: mean, 1 / deviation, scale, shift
  void* scratch = nullptr;
  double epsilon = 0;
  double momentum = 0;
};
void norm_train(dist::Stream stream, Element element, const NormForward& t);
/// With the running statistics; keeps nothing for a backward pass.
void norm_evaluate(dist::Stream stream, Element element, const NormForward& t);

struct NormBackward {
  Extent extent;
  View x, dy;
  Target dx, dz;                       ///< may be missing
  const std::uint8_t* mask = nullptr;  ///< null: no ReLU
  const float* gamma = nullptr;
  const float* saved = nullptr;
  float* dgamma = nullptr;
  float* dbeta = nullptr;
  float* coefficients = nullptr;  ///< 4 * channels of scratch
  void* scratch = nullptr;
  const StepState* state = nullptr;
};
void norm_backward(dist::Stream stream, Element element, const NormBackward& t);

struct PoolShape {
  std::int64_t batch, channels, in_h, in_w, out_h, out_w;
  std::int64_t kernel_h, kernel_w, stride, padding_h, padding_w;
};
inline constexpr std::int64_t kLargestPoolWindow = 256;
/// `places`: a byte an output, where in its window the largest value lies.
void max_pool(dist::Stream stream, Element element, const PoolShape& s, View x, View y,
              std::uint8_t* places);
void max_pool_backward(dist::Stream stream, Element element, const PoolShape& s, View dy,
                       const std::uint8_t* places, Target dx);
void average_pool(dist::Stream stream, Element element, const PoolShape& s, View x, View y);
void average_pool_backward(dist::Stream stream, Element element, const PoolShape& s, View dy,
                           Target dx);

/// y = relu(y + bias) in place; bias may be missing.
void add_bias(dist::Stream stream, Element element, Extent extent, View y, const float* bias,
              bool relu);
/// dy = 0 where y, the output of a ReLU (or nothing), is not positive; dbias = the sum over pixels
/// (or nothing).
void bias_backward(dist::Stream stream, Element element, Extent extent, View dy, View y,
                   float* dbias, void* scratch, const StepState* state);
/// y = relu(a + b); b may be missing.
void add(dist::Stream stream, Element element, Extent extent, View a, View b, View y, bool relu);
/// dx = dy, 0 where y, the output of a ReLU (or nothing), is not positive.
void pass_gradient(dist::Stream stream, Element element, Extent extent, View dy, View y, Target dx);
/// Any numbers of channels, and any first one: the rest up to `filled` becomes zero.
void copy_channels(dist::Stream stream, Element element, Extent extent, View from, Target to,
                   std::int64_t filled);

struct DropoutShape {
  std::int64_t batch, channels, height, width;  ///< channels that are real
  double rate = 0;
  std::uint64_t seed = 0;
  std::uint64_t node = 0;
};
/// `mask`: a bit an element: kept.
void dropout(dist::Stream stream, Element element, const DropoutShape& s, View x, View y,
             std::uint8_t* mask, const StepState* state);
void dropout_backward(dist::Stream stream, Element element, const DropoutShape& s, View dy,
                      const std::uint8_t* mask, Target dx);

struct SoftmaxLossCall {
  std::int64_t batch = 0;
  std::int64_t classes = 0;  ///< that are real
  View x;
  View dx;  ///< missing: no gradient
  const std::int32_t* labels = nullptr;
  double* losses = nullptr;  ///< scratch: two an image
  StepState* state = nullptr;
};
/// The mean loss to state->loss, state->accuracy likewise; dx = (softmax - one hot) / batch * loss
/// scale. A label outside [0, classes) gives a loss that is not a number.
void softmax_loss(dist::Stream stream, Element element, const SoftmaxLossCall& t);

/// nchw f32 -> nhwc, padded.
void import_images(dist::Stream stream, Element element, const float* images, std::int64_t batch,
                   std::int64_t channels, std::int64_t pixels, void* to);

/// A run of f32 values in the arena and its copy in `Element`s.
struct Piece {
  float* values = nullptr;
  void* copy = nullptr;
};
/// Kernels over many runs at once: `pieces` has a piece for every kPieceElements or fewer, counts
/// in `elements`, multiples of eight. All in device memory.
struct Pieces {
  const Piece* pieces = nullptr;
  const std::uint32_t* elements = nullptr;
  std::size_t count = 0;
};
inline constexpr std::uint64_t kPieceElements = 16384;
/// copy = values.
void round_values(dist::Stream stream, Element element, const Pieces& pieces);
/// values = copy / loss scale where there is a copy; counts values that are not finite.
void export_gradients(dist::Stream stream, Element element, const Pieces& pieces, StepState* state);

/// A train step begins: ++step, overflow = 0.
void begin_step(dist::Stream stream, StepState* state);
/// Its gradients are made: the next loss scale.
void end_step(dist::Stream stream, StepState* state);

}  // namespace nn::cudnn
