// SPDX-License-Identifier: Apache-2.0
// The cuDNN backend: one operation a group of nodes, NHWC, all work on the arena's stream. A pass
// is cut into segments; each runs plainly once, is then recorded, and launched as a whole from
// there on. The host waits for nothing but the loss, and not even for that where it is deferred.
#include "examples/nn/cudnn/net.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <utility>

#include "examples/nn/cudnn/failure.h"
#include "examples/nn/cudnn/feed.h"
#include "examples/nn/cudnn/layers.h"
#include "examples/nn/cudnn/memory.h"
#include "examples/nn/cudnn/parameter_layout.h"
#include "examples/nn/cudnn/piece_table.h"
#include "examples/nn/cudnn/segments.h"
#include "examples/nn/random.h"
#include "libdist/check.h"
#include "libdist/memory/device_wait.h"

namespace nn::cudnn {
namespace {

// So many steps may be enqueued and not yet done.
constexpr std::size_t kStepsAhead = 2;

constexpr std::uint64_t kOutcomeBytes = 2 * sizeof(double);

void require(const dist::Status& status) {
  if (!status.ok()) throw Failure(status.message());
}

struct MakeOperation {
  const StepPlan& plan;
  const Site& site;

  OperationPtr operator()(const Input&) const { throw Failure("a second input"); }
  OperationPtr operator()(const Conv& conv) const { return make_conv(conv, site); }
  OperationPtr operator()(const MaxPool& pool) const { return make_max_pool(pool.window, site); }
  OperationPtr operator()(const AvgPool& pool) const { return make_avg_pool(pool.window, site); }
  OperationPtr operator()(const GlobalAvgPool&) const {
    const Shape& in = site.shape_of_input();
    return make_avg_pool({in.height, in.width, 1, 0, 0}, site);
  }
  OperationPtr operator()(const BatchNorm& norm) const { return make_batch_norm(norm, site); }
  OperationPtr operator()(const Relu&) const { return make_relu(site); }
  OperationPtr operator()(const Dense& dense) const { return make_dense(dense, site); }
  OperationPtr operator()(const Dropout& dropout) const { return make_dropout(dropout, site); }
  OperationPtr operator()(const Add&) const { return make_add(site); }
  OperationPtr operator()(const Concat&) const {
    std::vector<bool> in_place;
    for (const std::size_t input : site.group.inputs) {
      in_place.push_back(plan.activation[input].buffer ==
                         plan.activation[site.group.output].buffer);
    }
    return make_concat(site, std::move(in_place));
  }
  OperationPtr operator()(const SoftmaxLoss&) const { return make_softmax_loss(site); }
};

class CudnnNetwork final : public Network {
 public:
  CudnnNetwork(const Graph& graph, const NetworkOptions& options, std::unique_ptr<Library> library)
      : graph_(graph),
        options_(options),
        arithmetic_(arithmetic_of(options)),
        device_(*options.device),
        stream_(options.stream),
        library_(std::move(library)),
        plan_(plan_step(graph_, options.batch, bytes_of(arithmetic_.element))),
        operations_(make_operations()),
        order_(graph_.backward_order()),
        parameters_(make_parameters()),
        index_(order_.size()),
        memory_(plan_, operations_, elements(), arithmetic_.element, options.batch),
        feed_(device_, stream_, options.batch, graph_.input_shape(), options.timeout) {
    for (std::size_t i = 0; i < order_.size(); ++i) index_[order_[i]] = i;
    library_->chosen();
  }
  ~CudnnNetwork() override {
    for (const dist::Event event : steps_under_way_) device_.release_event(event);
    if (!memory_bound_) return;
    // The stream may still read what is about to go; there is nobody to tell an error to.
    static_cast<void>(wait());
  }

  const Graph& graph() const override { return graph_; }
  const NetworkOptions& options() const override { return options_; }
  const std::vector<dist::Parameter>& parameters() const override { return parameters_; }

  dist::Status bind(std::vector<std::span<std::byte>> parameters,
                    std::vector<std::span<std::byte>> gradients) override {
    DIST_TRY(check_spans(parameters, "parameters"));
    DIST_TRY(check_spans(gradients, "gradients"));
    parameter_bytes_ = std::move(parameters);
    gradient_bytes_ = std::move(gradients);
    DIST_TRY_BECAUSE(memory_.allocate(device_, stream_, operations_), "cudnn");
    auto outcome = device_.allocate(dist::Bytes(kOutcomeBytes), dist::MemoryKind::pinned);
    DIST_TRY_BECAUSE(outcome, "cudnn");
    outcome_ = *std::move(outcome);
    *arrived(0) = std::numeric_limits<double>::quiet_NaN();
    memory_bound_ = true;
    try {
      wire();
      segments_ = std::make_unique<Segments>(*library_, stream_, segment_plan(), options_);
      put(memory_.state(), first_state());
      return make_tables();
    } catch (const Failure& failure) {
      return dist::Status::resource(fmt::format("cudnn: {}", failure.what()));
    }
  }

  void resume_at(std::uint64_t step) override { put(&memory_.state()->step, step); }

  double forward(const Batch& batch, Mode mode,
                 const std::function<void(std::size_t)>& await) override {
    DIST_ASSERT(segments_ != nullptr, "forward before bind");
    require(device_.make_current());
    let_device_follow();
    const auto images = feed_.take(batch, graph_.classes(), memory_.labels());
    require(images.status());
    if (mode == Mode::train) begin_step(stream_, memory_.state());
    const Shape& s = graph_.input_shape();
    import_images(stream_, arithmetic_.element, *images, options_.batch, s.channels,
                  s.height * s.width, memory_.view(plan_.activation[0]).data);
    segments_->forward(
        mode == Mode::train,
        [&](std::size_t group) {
          for (const std::size_t p : node_of(group).parameters) await(index_[p]);
        },
        [&](std::size_t segment) {
          round_values(stream_, arithmetic_.element, to_round_[segment].pieces());
        },
        [&](std::size_t group) {
          named(group, [&] { operations_[group]->forward(stream_, mode); });
        });
    const auto* outcome = reinterpret_cast<const std::byte*>(&memory_.state()->loss);
    require(device_.copy(stream_, outcome_.bytes().first(kOutcomeBytes), {outcome, kOutcomeBytes}));
    if (options_.deferred_loss) return *arrived(0);
    return last_loss();
  }

  double last_loss() override {
    require(wait());
    return *arrived(0);
  }
  double accuracy() const override { return *arrived(1); }

  void backward(const std::function<void(std::size_t)>& ready) override {
    std::vector<bool> made(parameters_.size(), false);
    std::size_t next = 0;
    segments_->backward(
        [&](std::size_t group) { named(group, [&] { operations_[group]->backward(stream_); }); },
        [&](std::size_t segment) {
          export_gradients(stream_, arithmetic_.element, to_export_[segment].pieces(),
                           memory_.state());
          if (segment == 0) end_step(stream_, memory_.state());
        },
        [&](std::size_t group) {
          // A batch norm that took in its Add comes before nodes between the two.
          for (const std::size_t p : node_of(group).parameters) made[index_[p]] = true;
          for (; next < made.size() && made[next]; ++next) ready(next);
        });
    auto event = device_.record(stream_);
    require(event.status());
    steps_under_way_.push_back(*event);
  }

  std::vector<double> plain_parameter(std::size_t i) const override {
    return to_plain(i, parameter_bytes_[i]);
  }
  std::vector<double> plain_gradient(std::size_t i) const override {
    return to_plain(i, gradient_bytes_[i]);
  }
  void set_plain_parameter(std::size_t i, std::span<const double> values) override {
    const std::vector<float> laid = ParameterLayout::of(graph_, order_[i]).from_plain(values);
    require(device_.copy(stream_, parameter_bytes_[i], std::as_bytes(std::span(laid))));
    require(wait());
  }

  // Not the plain layout, even where it has as many elements.
  std::uint64_t layout_hash() const override {
    return mix64(Network::layout_hash() ^ stream_of("ohwi8"));
  }

  std::vector<LayerTime> layer_times() const override {
    if (!options_.timing) return {};
    std::vector<LayerTime> times(graph_.nodes.size());
    for (std::size_t i = 0; i < times.size(); ++i) times[i].name = graph_.nodes[i].name;
    for (std::size_t g = 0; g < plan_.groups.size(); ++g) {
      LayerTime& time = times[plan_.groups[g].node];
      time.forward_ns = segments_->forward_ns(g);
      time.backward_ns = segments_->backward_ns(g);
    }
    return times;
  }

  std::vector<std::string> notes() const override {
    std::vector<std::string> lines{
        fmt::format("precision {}, {} operations for {} nodes, {:.0f} MiB beside the arena",
                    name_of(options_.precision), operations_.size(), graph_.nodes.size(),
                    static_cast<double>(memory_.total_bytes()) / (1024.0 * 1024.0))};
    if (segments_) lines.push_back(segments_->note());
    for (const OperationPtr& operation : operations_) {
      if (std::string choice = operation->choice(); !choice.empty()) lines.push_back(choice);
    }
    return lines;
  }

 private:
  const Node& node_of(std::size_t group) const { return graph_.nodes[plan_.groups[group].node]; }

  // Adds to a failure which layer it was.
  template <typename Work>
  void named(std::size_t group, const Work& work) const {
    try {
      work();
    } catch (const Failure& failure) {
      const Node& node = node_of(group);
      const Shape& s = node.shape;
      throw Failure(fmt::format("{} {} ({} x {}x{}x{}): {}", kind_of(node.layer), node.name,
                                options_.batch, s.channels, s.height, s.width, failure.what()));
    }
  }

  std::vector<OperationPtr> make_operations() {
    std::vector<OperationPtr> operations;
    for (std::size_t g = 0; g < plan_.groups.size(); ++g) {
      const Group& group = plan_.groups[g];
      Site site{graph_, group, options_, arithmetic_, *library_};
      for (const std::size_t input : group.inputs) {
        site.wanted.push_back(plan_.gradient[input].buffer != kNone);
      }
      named(g, [&] {
        operations.push_back(
            std::visit(MakeOperation{plan_, site}, graph_.nodes[group.node].layer));
      });
    }
    return operations;
  }

  std::vector<dist::Parameter> make_parameters() const {
    std::vector<dist::Parameter> parameters;
    for (const std::size_t p : order_) {
      const ParameterInfo& info = graph_.parameters[p];
      parameters.push_back({info.name, dist::Elems(ParameterLayout::of(graph_, p).elements()),
                            dist::DType::f32, info.decays()});
    }
    return parameters;
  }
  std::vector<std::uint64_t> elements() const {
    std::vector<std::uint64_t> counts;
    for (const dist::Parameter& parameter : parameters_) counts.push_back(parameter.elements.value);
    return counts;
  }

  dist::Status check_spans(const std::vector<std::span<std::byte>>& spans, const char* what) const {
    if (spans.size() != parameters_.size()) {
      return dist::Status::invalid_argument(fmt::format("cudnn: {} spans of {} bound, {} wanted",
                                                        spans.size(), what, parameters_.size()));
    }
    for (std::size_t i = 0; i < spans.size(); ++i) {
      const std::uint64_t wanted = parameters_[i].elements.value * sizeof(float);
      if (spans[i].size() != wanted) {
        return dist::Status::invalid_argument(
            fmt::format("cudnn: the span of {} for {} has {} bytes, {} wanted", what,
                        parameters_[i].name, spans[i].size(), wanted));
      }
    }
    return {};
  }

  BoundParameter bound(std::size_t i) const {
    BoundParameter parameter;
    auto* values = reinterpret_cast<float*>(parameter_bytes_[i].data());
    parameter.values = values;
    parameter.gradient = reinterpret_cast<float*>(gradient_bytes_[i].data());
    const bool same = arithmetic_.element == Element::f32;
    parameter.copy = same ? values : memory_.parameter_copy(i);
    parameter.gradient_copy = same ? parameter.gradient : memory_.gradient_copy(i);
    return parameter;
  }

  // Gives every operation its memory.
  void wire() {
    for (std::size_t g = 0; g < plan_.groups.size(); ++g) {
      const Group& group = plan_.groups[g];
      Tensors t;
      t.y = memory_.view(plan_.activation[group.output]);
      t.dy = memory_.view(plan_.gradient[group.output]);
      for (const std::size_t input : group.inputs) {
        t.x.push_back(memory_.view(plan_.activation[input]));
        t.dx.push_back({memory_.view(plan_.gradient[input]), plan_.readers[input].back() != g});
      }
      for (const std::size_t p : graph_.nodes[group.node].parameters) {
        t.parameters.push_back(bound(index_[p]));
      }
      t.kept = memory_.kept(g);
      t.workspace = memory_.workspace();
      t.labels = memory_.labels();
      t.state = memory_.state();
      operations_[g]->bind(std::move(t));
    }
  }

  std::vector<std::pair<std::size_t, std::size_t>> segment_plan() const {
    std::vector<std::uint64_t> bytes;
    for (std::size_t g = 0; g < plan_.groups.size(); ++g) {
      bytes.push_back(0);
      for (const std::size_t p : node_of(g).parameters) {
        bytes.back() += parameter_bytes_[index_[p]].size();
      }
    }
    return cut_pass(bytes, options_.segments);
  }

  // Weights and biases are rounded before a segment; what the library wrote as Elements goes to the
  // arena after it. Where the loss scale moves, all other gradients are looked at as well.
  dist::Status make_tables() {
    const auto& ranges = segments_->ranges();
    to_round_ = std::vector<PieceTable>(ranges.size());
    to_export_ = std::vector<PieceTable>(ranges.size());
    if (arithmetic_.element == Element::f32) return {};
    const bool look = arithmetic_.element == Element::f16;
    for (std::size_t k = 0; k < ranges.size(); ++k) {
      for (std::size_t g = ranges[k].first; g < ranges[k].second; ++g) {
        const Node& node = node_of(g);
        const bool norm = std::holds_alternative<BatchNorm>(node.layer);
        for (const std::size_t p : node.parameters) {
          add_pieces(k, index_[p], !norm, !norm && p == node.parameters[0], look);
        }
      }
      DIST_TRY(to_round_[k].upload(device_, stream_));
      DIST_TRY(to_export_[k].upload(device_, stream_));
    }
    return {};
  }
  void add_pieces(std::size_t segment, std::size_t i, bool rounded, bool exported, bool look) {
    auto* values = reinterpret_cast<float*>(parameter_bytes_[i].data());
    auto* gradient = reinterpret_cast<float*>(gradient_bytes_[i].data());
    const std::uint64_t count = parameters_[i].elements.value;
    const Element element = arithmetic_.element;
    if (rounded) to_round_[segment].add(values, memory_.parameter_copy(i), count, element);
    if (exported) {
      to_export_[segment].add(gradient, memory_.gradient_copy(i), count, element);
    } else if (look) {
      to_export_[segment].add(gradient, nullptr, count, element);
    }
  }

  template <typename T>
  void put(T* to, const T& value) {
    require(device_.copy(stream_, {reinterpret_cast<std::byte*>(to), sizeof value},
                         std::as_bytes(std::span(&value, 1))));
    require(wait());
  }
  StepState first_state() const {
    StepState state;
    state.loss_scale =
        options_.precision == Precision::f16 ? dynamic_loss_scale() : fixed_loss_scale();
    return state;
  }

  dist::Status wait() const {
    return dist::wait_for_stream(device_, stream_, options_.timeout, "cudnn");
  }

  // Waits until the device is at most kStepsAhead behind.
  void let_device_follow() {
    while (steps_under_way_.size() >= kStepsAhead) {
      const dist::Event event = steps_under_way_.front();
      steps_under_way_.pop_front();
      require(await_event(device_, event, options_.timeout));
    }
  }

  // 0: the loss, 1: the accuracy. The device writes them.
  volatile double* arrived(std::size_t which) const {
    return reinterpret_cast<volatile double*>(outcome_.bytes().data()) + which;
  }

  std::vector<double> to_plain(std::size_t i, std::span<const std::byte> bytes) const {
    std::vector<float> values(bytes.size() / sizeof(float));
    require(device_.copy(stream_, std::as_writable_bytes(std::span(values)), bytes));
    require(wait());
    return ParameterLayout::of(graph_, order_[i]).to_plain(values);
  }

  Graph graph_;
  NetworkOptions options_;
  Arithmetic arithmetic_;
  dist::Device& device_;
  dist::Stream stream_;
  std::unique_ptr<Library> library_;
  StepPlan plan_;
  std::vector<OperationPtr> operations_;  // one a group
  std::vector<std::size_t> order_;        // our parameters -> the graph's
  std::vector<dist::Parameter> parameters_;
  std::vector<std::size_t> index_;  // the graph's parameters -> ours
  ReplicaMemory memory_;
  Feed feed_;
  bool memory_bound_ = false;
  std::vector<std::span<std::byte>> parameter_bytes_, gradient_bytes_;  // in the arena
  std::unique_ptr<Segments> segments_;
  std::vector<PieceTable> to_round_, to_export_;  // by segment
  dist::DeviceMemory outcome_;                    // pinned: loss and accuracy
  std::deque<dist::Event> steps_under_way_;
};

}  // namespace

Arithmetic arithmetic_of(const NetworkOptions& options) {
  Arithmetic arithmetic;
  if (options.precision == Precision::f16) arithmetic.element = Element::f16;
  if (options.precision == Precision::bf16) arithmetic.element = Element::bf16;
  arithmetic.tf32 = options.precision == Precision::tf32;
  arithmetic.deterministic = options.deterministic;
  return arithmetic;
}

dist::Result<std::unique_ptr<Network>> make_network(const Graph& graph,
                                                    const NetworkOptions& options,
                                                    std::unique_ptr<Library> library) {
  if (options.dtype != dist::DType::f32) {
    return dist::Status::invalid_argument(
        "backend cudnn keeps parameters and gradients in f32; use --backend ref for f64");
  }
  try {
    return std::unique_ptr<Network>(
        std::make_unique<CudnnNetwork>(graph, options, std::move(library)));
  } catch (const Failure& failure) {
    return dist::Status::unavailable(
        fmt::format("cudnn: {} with batch {}: {}", graph.name, options.batch, failure.what()));
  }
}

}  // namespace nn::cudnn
