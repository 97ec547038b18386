// SPDX-License-Identifier: Apache-2.0
// The layers of the oneDNN backend: each chooses its primitives and layouts when it is made, asks
// for the memory it needs, gets all memory in bind(), and then only runs. Each layer is one file
// with one factory; net.cpp wires them up. Making and binding may throw dnnl::error.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "examples/nn/graph.h"
#include "examples/nn/network.h"
#include "examples/nn/onednn/compat.h"

namespace nn::onednn {

/// When a layer needs a piece of working memory.
enum class Phase {
  forward,   ///< Only while it runs forward.
  backward,  ///< Only while it runs backward.
  step,      ///< From its forward to its backward.
};
struct Workspace {
  std::uint64_t bytes = 0;
  Phase phase = Phase::forward;
};

/// How the gradient by one input is delivered.
struct GradientRoute {
  bool wanted = false;
  bool add = false;     ///< Another reader's share is there already.
  bool shared = false;  ///< It lies where the gradient by this layer's output lies.
};

/// Where a layer stands: all that it knows when it is made.
struct Site {
  const Graph& graph;
  std::size_t index;
  std::int64_t batch;
  dnnl::engine engine;
  std::vector<memory::desc> in;       ///< Layouts of the inputs, four dimensions each.
  std::vector<GradientRoute> routes;  ///< One an input.
  bool relu_follows = false;          ///< This layer applies the ReLU that follows it, in place.

  const Node& node() const { return graph.nodes[index]; }
  memory::dims output_dims() const {
    const Shape& s = node().shape;
    return {batch, s.channels, s.height, s.width};
  }
};

/// What a layer reads and writes. Gradients have the layout of their tensor.
struct Tensors {
  std::vector<memory> x;
  memory y;
  std::vector<memory> parameters;  ///< weight, bias or gamma, beta.
  memory dy;
  std::vector<memory> dx;              ///< Empty objects where not wanted.
  std::vector<memory> gradients;       ///< By the parameters; overwritten.
  std::vector<std::byte*> workspaces;  ///< In the order in which the layer asked.
};

struct Step {
  dnnl::primitive primitive;
  std::unordered_map<int, memory> arguments;
};
using Steps = std::vector<Step>;

/// One node of the network.
class Operation {
 public:
  explicit Operation(const Site& site) : engine_(site.engine) {}
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  const memory::desc& output() const { return output_; }
  const std::vector<memory::desc>& parameters() const { return parameters_; }
  const std::vector<Workspace>& workspaces() const { return workspaces_; }

  /// Called once; makes the lists of steps that the rest runs.
  virtual void bind(const Tensors& tensors) = 0;
  virtual void forward(dnnl::stream& stream, Mode mode);
  virtual void resume_at(std::uint64_t /*step*/) {}        ///< See Network::resume_at().
  virtual void backward_parameters(dnnl::stream& stream);  ///< Gradients by the parameters.
  virtual void backward_inputs(dnnl::stream& stream);      ///< Gradients by the inputs.

 protected:
  /// Index into Tensors::workspaces.
  std::size_t reserve(std::uint64_t bytes, Phase phase);
  memory workspace(const Tensors& tensors, std::size_t index, const memory::desc& desc) const;

  /// A primitive and the scratchpad it runs on.
  struct Kernel {
    dnnl::primitive primitive;
    memory::desc scratchpad;
    std::size_t slot = 0;
  };
  template <typename Descriptor>
  Kernel kernel(const Descriptor& descriptor, Phase phase) {
    const memory::desc scratchpad = descriptor.scratchpad_desc();
    return {dnnl::primitive(descriptor.get()), scratchpad, reserve(scratchpad.get_size(), phase)};
  }
  Step step(const Kernel& kernel, const Tensors& tensors,
            std::unordered_map<int, memory> arguments) const;

  Kernel reorder_kernel(const memory::desc& from, const memory::desc& to, Phase phase);

  /// Delivers the gradient by one input along its route: a primitive writes to target(), then
  /// finish() adds that to what is there, where it must.
  struct Delivery {
    std::size_t input = 0;
    bool add = false;
    Kernel sum;
    std::size_t slot = 0;
    memory::desc desc;
  };
  Delivery deliver(const Site& site, std::size_t input);
  memory target(const Delivery& delivery, const Tensors& tensors) const;
  void finish(const Delivery& delivery, const Tensors& tensors, Steps& steps) const;

  static void run(const Steps& steps, dnnl::stream& stream);

  dnnl::engine engine_;
  memory::desc output_;
  std::vector<memory::desc> parameters_;
  Steps forward_, backward_parameters_, backward_inputs_;

 private:
  std::vector<Workspace> workspaces_;
};

using OperationPtr = std::unique_ptr<Operation>;

OperationPtr make_conv(const Conv& options, const Site& site);
OperationPtr make_max_pool(const Window& window, const Site& site);
OperationPtr make_avg_pool(const Window& window, const Site& site);
OperationPtr make_batch_norm(const BatchNorm& options, const Site& site);
/// `forward_fused`: the layer before applies it; `backward_fused`: the gradient too.
OperationPtr make_relu(const Site& site, bool forward_fused, bool backward_fused);
OperationPtr make_dense(const Dense& options, const Site& site);
/// The mask is that of the ref backend, element by element.
OperationPtr make_dropout(const Dropout& options, const Site& site, std::uint64_t seed);
OperationPtr make_add(const Site& site);
OperationPtr make_concat(const Site& site);

/// The last node. Its output holds the probabilities.
class SoftmaxLossOperation : public Operation {
 public:
  using Operation::Operation;
  virtual void set_labels(std::span<const std::int32_t> labels) = 0;
  virtual double accuracy() const = 0;  ///< See Network::accuracy().
  virtual double loss() const = 0;      ///< Of the last forward, mean over the batch.
};
std::unique_ptr<SoftmaxLossOperation> make_softmax_loss(const Site& site);

/// Dense row-major f32, at most four dimensions.
memory::desc plain_desc(const memory::dims& dims);
memory::desc any_desc(const memory::dims& dims);
/// Whether a tensor of this layout lies in memory exactly as in plain_desc.
bool lies_plain(const memory::desc& desc);

/// A primitive for one fixed layout of the weights, or, where oneDNN has only slower code for that,
/// for the layout it likes better; the caller then reorders. `make` maps weights to a descriptor,
/// `weights_of` takes the layout of the weights out of one.
int speed_class(const char* implementation);
template <typename Make, typename WeightsOf>
auto prefer_layout(const memory::desc& fixed, const Make& make, const WeightsOf& weights_of) {
  auto free = make(any_desc(dims_of(fixed)));
  if (weights_of(free) == fixed) return free;
  try {
    auto same = make(fixed);
    if (speed_class(same.impl_info_str()) >= speed_class(free.impl_info_str())) return same;
  } catch (const dnnl::error&) {  // no implementation takes the fixed layout
  }
  return free;
}

}  // namespace nn::onednn
