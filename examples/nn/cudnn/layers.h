// SPDX-License-Identifier: Apache-2.0
// The layers of the cuDNN backend, one operation a group of nodes (plan.h): each says what memory
// it needs when it is made, gets all pointers in bind(), and then only enqueues work, always the
// same, so that it can be recorded. Each layer is one file with one factory; net.cpp wires them up.
// All of it may throw Failure.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "examples/nn/cudnn/kernels.h"
#include "examples/nn/cudnn/library.h"
#include "examples/nn/cudnn/plan.h"
#include "examples/nn/network.h"

namespace nn::cudnn {

/// Where an operation stands.
struct Site {
  const Graph& graph;
  const Group& group;
  const NetworkOptions& options;
  Arithmetic arithmetic;
  Library& library;
  std::vector<bool> wanted = {};  ///< by input: its gradient

  const Node& node() const { return graph.nodes[group.node]; }
  const Shape& shape_of_input(std::size_t i = 0) const {
    return graph.nodes[group.inputs[i]].shape;
  }
  const Shape& shape() const { return graph.nodes[group.output].shape; }
};

/// A parameter of the operation, in the arena and as Elements. In f32 these are the same.
struct BoundParameter {
  const float* values = nullptr;
  const void* copy = nullptr;
  float* gradient = nullptr;      ///< divided by the loss scale
  void* gradient_copy = nullptr;  ///< not divided; in f32 the same, and the scale is 1
};

/// What an operation reads and writes.
struct Tensors {
  std::vector<View> x;
  View y;
  std::vector<BoundParameter> parameters;  ///< weight, bias or gamma, beta
  View dy;
  std::vector<Target> dx;     ///< missing where not wanted
  std::vector<void*> kept;    ///< in the order in which it asked
  void* workspace = nullptr;  ///< shared by all operations: only while it runs
  const std::int32_t* labels = nullptr;
  StepState* state = nullptr;
};

/// Memory that only this operation uses.
struct Kept {
  std::uint64_t bytes = 0;
  bool always = false;  ///< from step to step; else from its forward to its backward pass
  float initial = 0;    ///< of f32 values that are kept always
};

class Operation {
 public:
  explicit Operation(const Site& site)
      : element_(site.arithmetic.element),
        extent_{site.options.batch * site.shape().height * site.shape().width,
                padded(site.shape().channels)} {}
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  const std::vector<Kept>& kept() const { return kept_; }
  std::uint64_t workspace_bytes() const { return workspace_bytes_; }
  /// What was chosen, in a few words; empty where there was no choice.
  virtual std::string choice() const { return {}; }

  void bind(Tensors tensors) { t_ = std::move(tensors); }
  virtual void forward(dist::Stream stream, Mode mode) = 0;
  virtual void backward(dist::Stream stream) = 0;

 protected:
  /// Index into Tensors::kept.
  std::size_t keep(std::uint64_t bytes) { return keep(Kept{bytes, false, 0}); }
  std::size_t keep(const Kept& kept) {
    kept_.push_back(kept);
    return kept_.size() - 1;
  }
  void need_workspace(std::uint64_t bytes) { workspace_bytes_ = std::max(workspace_bytes_, bytes); }
  std::uint8_t* bytes_at(std::size_t index) const {
    return static_cast<std::uint8_t*>(t_.kept[index]);
  }
  /// A bit an element of the output.
  std::uint64_t mask_bytes() const {
    return static_cast<std::uint64_t>(extent_.pixels * extent_.channels / kChannelBlock);
  }

  Element element_;
  Extent extent_;  ///< of the output
  Tensors t_;

 private:
  std::vector<Kept> kept_;
  std::uint64_t workspace_bytes_ = 0;
};

using OperationPtr = std::unique_ptr<Operation>;

OperationPtr make_conv(const Conv& options, const Site& site);
OperationPtr make_max_pool(const Window& window, const Site& site);
OperationPtr make_avg_pool(const Window& window, const Site& site);
OperationPtr make_batch_norm(const BatchNorm& options, const Site& site);
OperationPtr make_relu(const Site& site);
OperationPtr make_dense(const Dense& options, const Site& site);
/// The mask is that of the ref backend, element by element.
OperationPtr make_dropout(const Dropout& options, const Site& site);
OperationPtr make_add(const Site& site);
/// `in_place`: by input, whether it lies within the output already.
OperationPtr make_concat(const Site& site, std::vector<bool> in_place);
/// The last group. Writes the gradient of its input when it runs forward in training.
OperationPtr make_softmax_loss(const Site& site);

}  // namespace nn::cudnn
