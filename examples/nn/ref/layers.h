// SPDX-License-Identifier: Apache-2.0
// The reference layers: plain loops over NCHW tensors, the truth that other backends are tested
// against. Each layer is one file with one factory; net.cpp wires them up.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "examples/nn/graph.h"
#include "examples/nn/network.h"

namespace nn::ref {

/// Sizes of one layer, fixed when the network is made.
struct Geometry {
  std::int64_t batch = 0;
  std::vector<Shape> in;
  Shape out;

  std::int64_t out_elements() const { return batch * out.elements(); }
};

/// Where the gradient by one input goes.
template <typename T>
struct InputGradient {
  T* data = nullptr;  ///< Null: not wanted.
  bool add = false;   ///< Another reader's share is there already.

  void put(std::int64_t i, T value) const { data[i] = add ? data[i] + value : value; }
};

/// What one layer reads and writes; the whole batch, NCHW. x[0] == y and dx[0].data == dy where the
/// layer works in place.
template <typename T>
struct Tensors {
  std::vector<const T*> x;
  T* y = nullptr;
  std::vector<const T*> parameters;  ///< weight, bias or gamma, beta.
  const T* dy = nullptr;
  std::vector<InputGradient<T>> dx;
  std::vector<T*> gradients;  ///< By the parameters; overwritten.
};

/// One node of the network.
template <typename T>
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void forward(const Tensors<T>& t, Mode mode) = 0;
  virtual void backward(const Tensors<T>& t) = 0;
  /// See Network::resume_at().
  virtual void resume_at(std::uint64_t /*step*/) {}
};

template <typename T>
using OperationPtr = std::unique_ptr<Operation<T>>;

template <typename T>
OperationPtr<T> make_conv(const Conv& options, const Geometry& geometry);
template <typename T>
OperationPtr<T> make_max_pool(const Window& window, const Geometry& geometry);
template <typename T>
OperationPtr<T> make_avg_pool(const Window& window, const Geometry& geometry);
template <typename T>
OperationPtr<T> make_global_avg_pool(const Geometry& geometry);
template <typename T>
OperationPtr<T> make_batch_norm(const BatchNorm& options, const Geometry& geometry);
template <typename T>
OperationPtr<T> make_relu(const Geometry& geometry);
template <typename T>
OperationPtr<T> make_dense(const Dense& options, const Geometry& geometry);
/// The mask of element i in train step s is random_uniform(seed, mix of node and s, i) >= rate.
template <typename T>
OperationPtr<T> make_dropout(const Dropout& options, const Geometry& geometry, std::uint64_t seed,
                             std::size_t node);
template <typename T>
OperationPtr<T> make_add(const Geometry& geometry);
template <typename T>
OperationPtr<T> make_concat(const Geometry& geometry);

/// The last node. Its output holds the probabilities.
template <typename T>
class SoftmaxLossOperation : public Operation<T> {
 public:
  virtual void set_labels(std::span<const std::int32_t> labels) = 0;
  virtual double loss() const = 0;      ///< Of the last forward, mean over the batch.
  virtual double accuracy() const = 0;  ///< Likewise; see Network::accuracy().
};
template <typename T>
std::unique_ptr<SoftmaxLossOperation<T>> make_softmax_loss(const Geometry& geometry);

}  // namespace nn::ref
