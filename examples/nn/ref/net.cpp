// SPDX-License-Identifier: Apache-2.0
// The reference backend: walks the graph over the layers of this folder, in float or double. Its
// layouts are the plain ones.
#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include <fmt/format.h>

#include "examples/nn/backends.h"
#include "examples/nn/memory_plan.h"
#include "examples/nn/ref/layers.h"
#include "libdist/check.h"

namespace nn {
namespace ref {
namespace {

std::vector<std::uint64_t> node_bytes(const Graph& graph, std::int64_t batch, std::size_t size) {
  std::vector<std::uint64_t> bytes;
  for (const Node& node : graph.nodes) {
    bytes.push_back(static_cast<std::uint64_t>(batch * node.shape.elements()) * size);
  }
  return bytes;
}

template <typename T>
struct MakeOperation {
  const NetworkOptions& options;
  const Geometry& geometry;
  std::size_t node;

  OperationPtr<T> operator()(const Input&) const { return nullptr; }
  OperationPtr<T> operator()(const SoftmaxLoss&) const { return nullptr; }  // kept apart
  OperationPtr<T> operator()(const Conv& conv) const { return make_conv<T>(conv, geometry); }
  OperationPtr<T> operator()(const MaxPool& pool) const {
    return make_max_pool<T>(pool.window, geometry);
  }
  OperationPtr<T> operator()(const AvgPool& pool) const {
    return make_avg_pool<T>(pool.window, geometry);
  }
  OperationPtr<T> operator()(const GlobalAvgPool&) const {
    return make_global_avg_pool<T>(geometry);
  }
  OperationPtr<T> operator()(const BatchNorm& norm) const {
    return make_batch_norm<T>(norm, geometry);
  }
  OperationPtr<T> operator()(const Relu&) const { return make_relu<T>(geometry); }
  OperationPtr<T> operator()(const Dense& dense) const { return make_dense<T>(dense, geometry); }
  OperationPtr<T> operator()(const Dropout& dropout) const {
    return make_dropout<T>(dropout, geometry, options.dropout_seed, node);
  }
  OperationPtr<T> operator()(const Add&) const { return make_add<T>(geometry); }
  OperationPtr<T> operator()(const Concat&) const { return make_concat<T>(geometry); }
};

template <typename T>
class RefNetwork final : public Network {
 public:
  RefNetwork(const Graph& graph, const NetworkOptions& options)
      : graph_(graph),
        options_(options),
        buffers_(plan_buffers(graph, node_bytes(graph, options.batch, sizeof(T)))),
        plan_(plan_memory(buffers_.lifetimes)),
        backward_order_(graph.backward_order()),
        times_(options.timing ? graph.nodes.size() : 0) {
    backward_index_.resize(backward_order_.size());
    for (std::size_t i = 0; i < backward_order_.size(); ++i) {
      const ParameterInfo& info = graph_.parameters[backward_order_[i]];
      parameters_.push_back(
          {info.name, dist::Elems(info.elements()), dist::dtype_of<T>, info.decays()});
      backward_index_[backward_order_[i]] = i;
    }
    for (std::size_t i = 0; i < times_.size(); ++i) times_[i].name = graph_.nodes[i].name;
  }

  // Activations, their gradients, parameters and gradients.
  std::uint64_t needed_bytes() const override {
    return plan_.total_bytes + 2 * graph_.parameter_elements() * sizeof(T);
  }

  const Graph& graph() const override { return graph_; }
  const NetworkOptions& options() const override { return options_; }
  const std::vector<dist::Parameter>& parameters() const override { return parameters_; }

  dist::Status bind(std::vector<std::span<std::byte>> parameters,
                    std::vector<std::span<std::byte>> gradients) override {
    DIST_TRY(take_spans(parameters, parameter_values_, "parameters"));
    DIST_TRY(take_spans(gradients, gradient_values_, "gradients"));
    memory_.reset(new (std::nothrow) T[plan_.total_bytes / sizeof(T)]);
    if (memory_ == nullptr) {
      return dist::Status::resource(
          fmt::format("ref: {} bytes of activations cannot be allocated", plan_.total_bytes));
    }
    wire();
    return {};
  }

  double forward(const Batch& batch, Mode mode,
                 const std::function<void(std::size_t)>& await) override {
    DIST_ASSERT(memory_ != nullptr, "forward before bind");
    DIST_ASSERT(static_cast<std::int64_t>(batch.images.size()) ==
                    options_.batch * graph_.input_shape().elements(),
                "the images are not one batch");
    loss_->set_labels(batch.labels);
    std::copy(batch.images.begin(), batch.images.end(), tensors_[0].y);
    for (std::size_t i = 1; i < graph_.nodes.size(); ++i) {
      for (const std::size_t p : graph_.nodes[i].parameters) await(backward_index_[p]);
      const auto start = dist::Clock::now();
      operation(i).forward(tensors_[i], mode);
      note_time(i, &LayerTime::forward_ns, start);
    }
    return loss_->loss();
  }

  double accuracy() const override { return loss_->accuracy(); }

  void backward(const std::function<void(std::size_t)>& ready) override {
    for (std::size_t i = graph_.nodes.size() - 1; i > 0; --i) {
      const auto start = dist::Clock::now();
      operation(i).backward(tensors_[i]);
      note_time(i, &LayerTime::backward_ns, start);
      for (const std::size_t p : graph_.nodes[i].parameters) ready(backward_index_[p]);
    }
  }

  void resume_at(std::uint64_t step) override {
    for (std::size_t i = 1; i < operations_.size(); ++i) operation(i).resume_at(step);
  }

  std::vector<double> plain_parameter(std::size_t i) const override {
    return {parameter_values_[i].begin(), parameter_values_[i].end()};
  }
  std::vector<double> plain_gradient(std::size_t i) const override {
    return {gradient_values_[i].begin(), gradient_values_[i].end()};
  }
  void set_plain_parameter(std::size_t i, std::span<const double> values) override {
    DIST_ASSERT(values.size() == parameter_values_[i].size(), "a parameter of another size");
    std::transform(values.begin(), values.end(), parameter_values_[i].begin(),
                   [](double value) { return static_cast<T>(value); });
  }

  std::vector<LayerTime> layer_times() const override { return times_; }

 private:
  Operation<T>& operation(std::size_t i) {
    return operations_[i] ? *operations_[i] : static_cast<Operation<T>&>(*loss_);
  }

  void note_time(std::size_t i, double LayerTime::*which, dist::TimePoint start) {
    if (times_.empty()) return;
    times_[i].*which = std::chrono::duration<double, std::nano>(dist::Clock::now() - start).count();
  }

  dist::Status take_spans(const std::vector<std::span<std::byte>>& from,
                          std::vector<std::span<T>>& to, const char* what) const {
    if (from.size() != parameters_.size()) {
      return dist::Status::invalid_argument(fmt::format("ref: {} spans of {} bound, {} wanted",
                                                        from.size(), what, parameters_.size()));
    }
    for (std::size_t i = 0; i < from.size(); ++i) {
      const std::uint64_t elements = parameters_[i].elements.value;
      if (from[i].size() != elements * sizeof(T)) {
        return dist::Status::invalid_argument(
            fmt::format("ref: the span of {} for {} has {} bytes, {} wanted", what,
                        parameters_[i].name, from[i].size(), elements * sizeof(T)));
      }
      to.emplace_back(reinterpret_cast<T*>(from[i].data()), elements);
    }
    return {};
  }

  // Gives every node its operation and its pointers.
  void wire() {
    const auto place = [&](std::size_t buffer) {
      return memory_.get() + plan_.offsets[buffer] / sizeof(T);
    };
    const std::size_t count = graph_.nodes.size();
    operations_.resize(count);
    tensors_.resize(count);
    std::vector<bool> written(count, false);  // gradients, in backward order
    for (std::size_t i = count; i-- > 0;) {
      const Node& node = graph_.nodes[i];
      Tensors<T>& t = tensors_[i];
      t.y = place(buffers_.activation[i]);
      if (buffers_.gradient[i] != TrainingBuffers::kNone) t.dy = place(buffers_.gradient[i]);
      Geometry geometry{options_.batch, {}, node.shape};
      for (const std::size_t input : node.inputs) {
        geometry.in.push_back(graph_.nodes[input].shape);
        t.x.push_back(place(buffers_.activation[input]));
        const bool wanted = buffers_.gradient[input] != TrainingBuffers::kNone;
        t.dx.push_back({wanted ? place(buffers_.gradient[input]) : nullptr, written[input]});
        written[input] = true;
      }
      for (const std::size_t p : node.parameters) {
        t.parameters.push_back(parameter_values_[backward_index_[p]].data());
        t.gradients.push_back(gradient_values_[backward_index_[p]].data());
      }
      operations_[i] = std::visit(MakeOperation<T>{options_, geometry, i}, node.layer);
      if (std::holds_alternative<SoftmaxLoss>(node.layer)) loss_ = make_softmax_loss<T>(geometry);
    }
  }

  Graph graph_;
  NetworkOptions options_;
  TrainingBuffers buffers_;
  MemoryPlan plan_;
  std::vector<std::size_t> backward_order_;  // index into parameters() -> into graph_.parameters
  std::vector<std::size_t> backward_index_;  // the other way
  std::vector<dist::Parameter> parameters_;
  std::vector<std::span<T>> parameter_values_, gradient_values_;
  std::vector<LayerTime> times_;
  std::unique_ptr<T[]> memory_;
  std::vector<Tensors<T>> tensors_;
  std::vector<OperationPtr<T>> operations_;
  std::unique_ptr<SoftmaxLossOperation<T>> loss_;
};

}  // namespace
}  // namespace ref

namespace {

template <typename T>
dist::Result<std::unique_ptr<Network>> make(const Graph& graph, const NetworkOptions& options) {
  auto network = std::make_unique<ref::RefNetwork<T>>(graph, options);
  DIST_TRY(fits_in_memory(network->needed_bytes(),
                          fmt::format("ref: {} with batch {} in {}", graph.name, options.batch,
                                      dist::name_of(dist::dtype_of<T>))));
  return std::unique_ptr<Network>(std::move(network));
}

}  // namespace

dist::Result<std::unique_ptr<Network>> make_ref_network(const Graph& graph,
                                                        const NetworkOptions& options) {
  return options.dtype == dist::DType::f64 ? make<double>(graph, options)
                                           : make<float>(graph, options);
}

}  // namespace nn
