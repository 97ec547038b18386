// SPDX-License-Identifier: Apache-2.0
// What this backend takes from cuDNN, cuBLASLt and CUDA beside its own kernels: convolutions,
// matrix products, recorded work and a stopwatch. Tests put host loops in its place. Every call
// that takes a Stream enqueues work and returns. Errors: Failure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "examples/nn/cudnn/kernels.h"
#include "examples/nn/graph.h"

namespace nn::cudnn {

/// How numbers are held and multiplied.
struct Arithmetic {
  Element element = Element::f32;
  bool tf32 = false;           ///< f32 is multiplied with 10 bits of mantissa
  bool deterministic = false;  ///< equal inputs give equal bits
};

/// A convolution with NHWC tensors and ohwi weights; channels padded. Dense tensors: the pitch is
/// the number of channels.
struct ConvProblem {
  std::string layer;  ///< for messages
  std::int64_t batch = 0;
  Shape in, out;
  Window window;
  bool bias = false;
  bool relu = false;
  bool input_gradient = false;
};

struct Bias {
  const float* values = nullptr;  ///< null: no bias
  const void* copy = nullptr;     ///< the same as Elements
};

class Convolution {
 public:
  virtual ~Convolution() = default;
  virtual std::uint64_t workspace_bytes() const = 0;
  /// What was chosen, in a few words.
  virtual std::string choice() const = 0;

  /// y = conv(x, weight), plus the bias, through the ReLU, as the problem says.
  virtual void forward(dist::Stream stream, const void* x, const void* weight, const Bias& bias,
                       void* y, void* workspace) = 0;
  virtual void backward_data(dist::Stream stream, const void* weight, const void* dy, void* dx,
                             bool add, void* workspace) = 0;
  virtual void backward_weight(dist::Stream stream, const void* x, const void* dy, void* dweight,
                               void* workspace) = 0;
};

/// y [batch, outs] = x [batch, ins] * weight [outs, ins]^T, row-major; sizes are multiples of
/// eight.
struct DenseProblem {
  std::string layer;
  std::int64_t batch = 0;
  std::int64_t ins = 0;
  std::int64_t outs = 0;
  bool bias = false;
  bool relu = false;
  bool input_gradient = false;
};

/// As Convolution.
class DenseProduct {
 public:
  virtual ~DenseProduct() = default;
  virtual std::uint64_t workspace_bytes() const = 0;
  virtual std::string choice() const = 0;
  virtual void forward(dist::Stream stream, const void* x, const void* weight, const Bias& bias,
                       void* y, void* workspace) = 0;
  virtual void backward_data(dist::Stream stream, const void* weight, const void* dy, void* dx,
                             bool add, void* workspace) = 0;
  virtual void backward_weight(dist::Stream stream, const void* x, const void* dy, void* dweight,
                               void* workspace) = 0;
};

/// Work that was recorded once and is launched as a whole.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void launch(dist::Stream stream) = 0;
};

/// Marks in a stream with the device's time.
class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  virtual void mark(dist::Stream stream, std::size_t index) = 0;
  /// Waits for the later mark; 0 where one was not set.
  virtual double nanoseconds(std::size_t from, std::size_t to) = 0;
};

/// Bound to one device, one stream and the thread that made it. Whoever makes the same problem
/// again gets the same object: algorithms are timed once.
class Library {
 public:
  virtual ~Library() = default;
  virtual std::shared_ptr<Convolution> convolution(const ConvProblem& problem) = 0;
  virtual std::shared_ptr<DenseProduct> dense(const DenseProblem& problem) = 0;
  /// Runs `work`, whose calls are recorded and not executed. Null where that cannot be, with the
  /// reason in `why`; nothing was executed then either.
  virtual std::unique_ptr<Recording> record(dist::Stream stream, const std::function<void()>& work,
                                            std::string* why) = 0;
  virtual std::unique_ptr<Stopwatch> stopwatch(std::size_t marks) = 0;
  /// All problems are made: memory for timing them can go.
  virtual void chosen() {}
};

}  // namespace nn::cudnn
