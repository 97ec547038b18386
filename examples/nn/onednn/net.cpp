// SPDX-License-Identifier: Apache-2.0
// The oneDNN backend: one layer object a node, f32, in the blocked layouts that the primitives
// choose. Activations and gradients share one planned buffer with the layers' working memory;
// parameters and their gradients lie in the caller's arena in one layout each, and plain values are
// reordered only on the way in and out.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "examples/nn/backends.h"
#include "examples/nn/memory_plan.h"
#include "examples/nn/onednn/buffer.h"
#include "examples/nn/onednn/layers.h"
#include "libdist/check.h"

namespace nn::onednn {
namespace {

// oneDNN plans a primitive for the number of threads that OpenMP offers at that moment, and must
// run it with the same; the setting belongs to the calling thread.
class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

class InputOperation final : public Operation {
 public:
  explicit InputOperation(const Site& site) : Operation(site) {
    output_ = plain_desc(site.output_dims());
  }
  void bind(const Tensors&) override {}
};

template <typename... Kinds>
bool is_one_of(const Layer& layer) {
  return (std::holds_alternative<Kinds>(layer) || ...);
}

struct MakeOperation {
  const NetworkOptions& options;
  const Site& site;
  bool relu_forward_fused;
  bool relu_backward_fused;

  OperationPtr operator()(const Input&) const { return std::make_unique<InputOperation>(site); }
  OperationPtr operator()(const SoftmaxLoss&) const { return make_softmax_loss(site); }
  OperationPtr operator()(const Conv& conv) const { return make_conv(conv, site); }
  OperationPtr operator()(const MaxPool& pool) const { return make_max_pool(pool.window, site); }
  OperationPtr operator()(const AvgPool& pool) const { return make_avg_pool(pool.window, site); }
  OperationPtr operator()(const GlobalAvgPool&) const {
    const Shape& in = site.graph.shape_of_input(site.node());
    return make_avg_pool({in.height, in.width, 1, 0, 0}, site);
  }
  OperationPtr operator()(const BatchNorm& norm) const { return make_batch_norm(norm, site); }
  OperationPtr operator()(const Relu&) const {
    return make_relu(site, relu_forward_fused, relu_backward_fused);
  }
  OperationPtr operator()(const Dense& dense) const { return make_dense(dense, site); }
  OperationPtr operator()(const Dropout& dropout) const {
    return make_dropout(dropout, site, options.dropout_seed);
  }
  OperationPtr operator()(const Add&) const { return make_add(site); }
  OperationPtr operator()(const Concat&) const { return make_concat(site); }
};

class OneDnnNetwork final : public Network {
 public:
  OneDnnNetwork(const Graph& graph, const NetworkOptions& options)
      : graph_(graph),
        options_(options),
        threads_(options.threads > 0 ? options.threads : omp_get_max_threads()),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        times_(options.timing ? graph.nodes.size() : 0) {
    const Threads threads(threads_);
    make_operations();
    plan();
    for (const std::size_t p : graph_.backward_order()) {
      const ParameterInfo& info = graph_.parameters[p];
      const std::vector<std::size_t>& of_node = graph_.nodes[info.node].parameters;
      const auto place = std::find(of_node.begin(), of_node.end(), p) - of_node.begin();
      layouts_.push_back(operations_[info.node]->parameters()[static_cast<std::size_t>(place)]);
      parameters_.push_back({info.name, dist::Elems(layouts_.back().get_size() / sizeof(float)),
                             dist::DType::f32, info.decays()});
    }
    for (std::size_t i = 0; i < times_.size(); ++i) times_[i].name = graph_.nodes[i].name;
  }

  // Activations, their gradients, working memory, parameters and gradients.
  std::uint64_t needed_bytes() const override {
    std::uint64_t bytes = plan_.total_bytes;
    for (const memory::desc& layout : layouts_) bytes += 2 * layout.get_size();
    return bytes;
  }

  const Graph& graph() const override { return graph_; }
  const NetworkOptions& options() const override { return options_; }
  const std::vector<dist::Parameter>& parameters() const override { return parameters_; }

  dist::Status bind(std::vector<std::span<std::byte>> parameters,
                    std::vector<std::span<std::byte>> gradients) override {
    DIST_TRY(take_spans(parameters, parameter_values_, "parameters"));
    DIST_TRY(take_spans(gradients, gradient_values_, "gradients"));
    auto buffer = Buffer::allocate(plan_.total_bytes);
    DIST_TRY_BECAUSE(buffer, "onednn: activations");
    buffer_ = *std::move(buffer);
    const Threads threads(threads_);
    try {
      wire();
    } catch (const dnnl::error& error) {
      return dist::Status::resource(fmt::format("onednn: {}", error.message));
    }
    return {};
  }

  void resume_at(std::uint64_t step) override {
    for (const OperationPtr& operation : operations_) operation->resume_at(step);
  }

  double forward(const Batch& batch, Mode mode,
                 const std::function<void(std::size_t)>& await) override {
    DIST_ASSERT(buffer_.data() != nullptr, "forward before bind");
    DIST_ASSERT(static_cast<std::int64_t>(batch.images.size()) ==
                    options_.batch * graph_.input_shape().elements(),
                "the images are not one batch");
    const Threads threads(threads_);
    loss_->set_labels(batch.labels);
    std::copy(batch.images.begin(), batch.images.end(), images_);
    std::size_t next = parameters_.size();
    for (std::size_t i = 1; i < operations_.size(); ++i) {
      next -= graph_.nodes[i].parameters.size();
      for (std::size_t k = 0; k < graph_.nodes[i].parameters.size(); ++k) await(next + k);
      const auto start = dist::Clock::now();
      operations_[i]->forward(stream_, mode);
      if (options_.timing) times_[i].forward_ns = since(start);
    }
    return loss_->loss();
  }

  double accuracy() const override { return loss_->accuracy(); }

  void backward(const std::function<void(std::size_t)>& ready) override {
    const Threads threads(threads_);
    std::size_t next = 0;
    for (std::size_t i = operations_.size() - 1; i > 0; --i) {
      const auto start = dist::Clock::now();
      operations_[i]->backward_parameters(stream_);
      double spent_ns = since(start);
      for (std::size_t k = 0; k < graph_.nodes[i].parameters.size(); ++k) ready(next++);
      const auto again = dist::Clock::now();
      operations_[i]->backward_inputs(stream_);
      spent_ns += since(again);
      if (options_.timing) times_[i].backward_ns = spent_ns;
    }
  }

  std::vector<double> plain_parameter(std::size_t i) const override {
    return to_plain(layouts_[i], parameter_values_[i]);
  }
  std::vector<double> plain_gradient(std::size_t i) const override {
    return to_plain(layouts_[i], gradient_values_[i]);
  }
  void set_plain_parameter(std::size_t i, std::span<const double> values) override {
    const memory::desc plain = plain_desc(dims_of(layouts_[i]));
    DIST_ASSERT(values.size() == plain.get_size() / sizeof(float), "a parameter of another size");
    std::vector<float> floats(values.size());
    std::transform(values.begin(), values.end(), floats.begin(),
                   [](double value) { return static_cast<float>(value); });
    reorder(memory(plain, engine_, floats.data()),
            memory(layouts_[i], engine_, parameter_values_[i]));
  }

  std::vector<LayerTime> layer_times() const override { return times_; }

 private:
  static double since(dist::TimePoint start) {
    return std::chrono::duration<double, std::nano>(dist::Clock::now() - start).count();
  }

  // In forward order: each layer sees the layouts that the layers before it chose.
  void make_operations() {
    const std::vector<std::uint64_t> no_bytes(graph_.nodes.size(), 0);
    const TrainingBuffers sharing = plan_buffers(graph_, no_bytes);
    const auto readers = graph_.consumers();
    const auto fuses = [&](std::size_t relu) {
      const Node& node = graph_.nodes[relu];
      return is_one_of<Relu>(node.layer) && sharing.in_place(node, relu) &&
             is_one_of<Conv, BatchNorm, Dense, Add>(graph_.nodes[node.inputs[0]].layer);
    };
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      Site site{graph_, i, options_.batch, engine_, {}, {}, false};
      site.relu_follows = readers[i].size() == 1 && fuses(readers[i][0]);
      for (const std::size_t input : node.inputs) {
        site.in.push_back(operations_[input]->output());
        const std::size_t gradient = sharing.gradient[input];
        site.routes.push_back({gradient != TrainingBuffers::kNone, readers[input].back() != i,
                               gradient == sharing.gradient[i]});
      }
      const bool relu = fuses(i);
      const bool norm = relu && is_one_of<BatchNorm>(graph_.nodes[node.inputs[0]].layer);
      operations_.push_back(std::visit(MakeOperation{options_, site, relu, norm}, node.layer));
    }
    loss_ = static_cast<SoftmaxLossOperation*>(operations_.back().get());
  }

  // Working memory takes part in the plan as further buffers, after those of the tensors.
  void plan() {
    std::vector<std::uint64_t> node_bytes;
    for (const OperationPtr& operation : operations_) {
      node_bytes.push_back(operation->output().get_size());
    }
    buffers_ = plan_buffers(graph_, node_bytes);
    std::vector<Lifetime> lifetimes = buffers_.lifetimes;
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const auto forward = static_cast<std::int64_t>(i);
      const auto backward = static_cast<std::int64_t>(2 * operations_.size() - 1 - i);
      for (const Workspace& workspace : operations_[i]->workspaces()) {
        lifetimes.push_back({workspace.bytes,
                             workspace.phase == Phase::backward ? backward : forward,
                             workspace.phase == Phase::forward ? forward : backward});
      }
    }
    plan_ = plan_memory(lifetimes);
  }

  dist::Status take_spans(const std::vector<std::span<std::byte>>& from, std::vector<void*>& to,
                          const char* what) const {
    if (from.size() != parameters_.size()) {
      return dist::Status::invalid_argument(fmt::format("onednn: {} spans of {} bound, {} wanted",
                                                        from.size(), what, parameters_.size()));
    }
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (from[i].size() != layouts_[i].get_size()) {
        return dist::Status::invalid_argument(
            fmt::format("onednn: the span of {} for {} has {} bytes, {} wanted", what,
                        parameters_[i].name, from[i].size(), layouts_[i].get_size()));
      }
      to.push_back(from[i].data());
    }
    return {};
  }

  // Gives every layer its memory.
  void wire() {
    const auto place = [&](std::size_t buffer) { return buffer_.data() + plan_.offsets[buffer]; };
    const auto tensor = [&](std::size_t node, std::size_t buffer) {
      if (buffer == TrainingBuffers::kNone) return memory();
      return memory(operations_[node]->output(), engine_, place(buffer));
    };
    std::vector<std::size_t> index(parameters_.size());  // graph's parameter -> ours
    const std::vector<std::size_t> order = graph_.backward_order();
    for (std::size_t i = 0; i < order.size(); ++i) index[order[i]] = i;

    std::size_t workspace = buffers_.lifetimes.size();
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const Node& node = graph_.nodes[i];
      Tensors t;
      t.y = tensor(i, buffers_.activation[i]);
      t.dy = tensor(i, buffers_.gradient[i]);
      for (const std::size_t input : node.inputs) {
        t.x.push_back(tensor(input, buffers_.activation[input]));
        t.dx.push_back(tensor(input, buffers_.gradient[input]));
      }
      for (const std::size_t p : node.parameters) {
        t.parameters.emplace_back(layouts_[index[p]], engine_, parameter_values_[index[p]]);
        t.gradients.emplace_back(layouts_[index[p]], engine_, gradient_values_[index[p]]);
      }
      for (std::size_t k = 0; k < operations_[i]->workspaces().size(); ++k) {
        t.workspaces.push_back(place(workspace++));
      }
      operations_[i]->bind(t);
    }
    images_ = reinterpret_cast<float*>(place(buffers_.activation[0]));
  }

  void reorder(memory from, memory to) const {
    const Threads threads(threads_);
    dnnl::stream stream(engine_);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }

  std::vector<double> to_plain(const memory::desc& layout, void* values) const {
    const memory::desc plain = plain_desc(dims_of(layout));
    std::vector<float> floats(plain.get_size() / sizeof(float));
    reorder(memory(layout, engine_, values), memory(plain, engine_, floats.data()));
    return {floats.begin(), floats.end()};
  }

  Graph graph_;
  NetworkOptions options_;
  int threads_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::vector<OperationPtr> operations_;  // one a node
  SoftmaxLossOperation* loss_ = nullptr;  // the last of them
  TrainingBuffers buffers_;
  MemoryPlan plan_;
  Buffer buffer_;
  float* images_ = nullptr;
  std::vector<dist::Parameter> parameters_;
  std::vector<memory::desc> layouts_;                      // of the parameters, in that order
  std::vector<void*> parameter_values_, gradient_values_;  // in the arena
  std::vector<LayerTime> times_;
};

}  // namespace
}  // namespace nn::onednn

namespace nn {

dist::Result<std::unique_ptr<Network>> make_onednn_network(const Graph& graph,
                                                           const NetworkOptions& options) {
  if (options.dtype != dist::DType::f32) {
    return dist::Status::invalid_argument(
        "backend onednn computes in f32 only; use --backend ref for f64");
  }
  const std::string what = fmt::format("onednn: {} with batch {}", graph.name, options.batch);
  try {
    auto network = std::make_unique<onednn::OneDnnNetwork>(graph, options);
    DIST_TRY(fits_in_memory(network->needed_bytes(), what));
    return std::unique_ptr<Network>(std::move(network));
  } catch (const dnnl::error& error) {
    return dist::Status::unavailable(
        fmt::format("{}: oneDNN has no primitive for a layer: {}", what, error.message));
  }
}

}  // namespace nn
