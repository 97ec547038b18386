// SPDX-License-Identifier: Apache-2.0
// The replay backend: no arithmetic. It sleeps as long as a layer-time profile says and calls
// ready() when a real replica would have, so that the real exchange of many ranks runs on a small
// machine. Parameters keep the values they have, gradients too; the loss is not computed: it is
// always 0.
#include <algorithm>
#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "examples/nn/backends.h"
#include "examples/nn/profile.h"
#include "libdist/check.h"

namespace nn {
namespace {

// Deadlines count from the start of a pass, so that late wake-ups do not add up.
class Playback {
 public:
  void advance_to(double elapsed_ns) const {
    std::this_thread::sleep_until(start_ + dist::Duration(static_cast<std::int64_t>(elapsed_ns)));
  }

  // What follows comes later by as much.
  void pause(dist::Duration waited) { start_ += waited; }

 private:
  dist::TimePoint start_ = dist::Clock::now();
};

template <typename T>
void copy_values(std::span<const std::byte> bytes, std::vector<double>& values) {
  const std::span<const T> typed(reinterpret_cast<const T*>(bytes.data()),
                                 bytes.size() / sizeof(T));
  values.assign(typed.begin(), typed.end());
}

class ReplayNetwork final : public Network {
 public:
  ReplayNetwork(const Graph& graph, const NetworkOptions& options, std::vector<LayerTime> times)
      : graph_(graph), options_(options), times_(std::move(times)) {
    for (const std::size_t p : graph.backward_order()) {
      const ParameterInfo& info = graph.parameters[p];
      parameters_.push_back(
          {info.name, dist::Elems(info.elements()), options.dtype, info.decays()});
    }
  }

  const Graph& graph() const override { return graph_; }
  const NetworkOptions& options() const override { return options_; }
  const std::vector<dist::Parameter>& parameters() const override { return parameters_; }

  dist::Status bind(std::vector<std::span<std::byte>> parameters,
                    std::vector<std::span<std::byte>> gradients) override {
    for (const auto* spans : {&parameters, &gradients}) {
      if (spans->size() != parameters_.size()) {
        return dist::Status::invalid_argument(
            fmt::format("replay: {} spans bound, {} wanted", spans->size(), parameters_.size()));
      }
      for (std::size_t i = 0; i < spans->size(); ++i) {
        const std::uint64_t wanted = bytes_of(parameters_[i].elements, options_.dtype).value;
        if ((*spans)[i].size() != wanted) {
          return dist::Status::invalid_argument(
              fmt::format("replay: the span for {} has {} bytes, {} wanted", parameters_[i].name,
                          (*spans)[i].size(), wanted));
        }
      }
    }
    parameter_bytes_ = std::move(parameters);
    gradient_bytes_ = std::move(gradients);
    return {};
  }

  void initialize(std::uint64_t) override {}

  double accuracy() const override { return 0; }

  // A layer that waits for its parameters delays all that follow.
  double forward(const Batch&, Mode, const std::function<void(std::size_t)>& await) override {
    Playback playback;
    double elapsed_ns = 0;
    std::size_t next = parameters_.size();
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const std::size_t count = graph_.nodes[i].parameters.size();
      next -= count;
      if (count > 0) {
        playback.advance_to(elapsed_ns);
        const auto waiting = dist::Clock::now();
        for (std::size_t k = 0; k < count; ++k) await(next + k);
        playback.pause(dist::Clock::now() - waiting);
      }
      elapsed_ns += times_[i].forward_ns;
    }
    playback.advance_to(elapsed_ns);
    return 0;
  }

  void backward(const std::function<void(std::size_t)>& ready) override {
    const Playback playback;
    double elapsed_ns = 0;
    std::size_t next = 0;
    for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
      elapsed_ns += times_[i].backward_ns;
      const std::size_t count = graph_.nodes[i].parameters.size();
      if (count > 0) playback.advance_to(elapsed_ns);
      for (std::size_t k = 0; k < count; ++k) ready(next++);
    }
    playback.advance_to(elapsed_ns);
  }

  std::vector<double> plain_parameter(std::size_t i) const override {
    return values_of(parameter_bytes_[i]);
  }
  std::vector<double> plain_gradient(std::size_t i) const override {
    return values_of(gradient_bytes_[i]);
  }
  void set_plain_parameter(std::size_t i, std::span<const double> values) override {
    DIST_ASSERT(values.size() == parameters_[i].elements.value, "a parameter of another size");
    std::byte* to = parameter_bytes_[i].data();
    if (options_.dtype == dist::DType::f64) {
      std::copy(values.begin(), values.end(), reinterpret_cast<double*>(to));
    } else {
      std::transform(values.begin(), values.end(), reinterpret_cast<float*>(to),
                     [](double value) { return static_cast<float>(value); });
    }
  }

  std::vector<LayerTime> layer_times() const override {
    return options_.timing ? times_ : std::vector<LayerTime>{};
  }

 private:
  std::vector<double> values_of(std::span<const std::byte> bytes) const {
    std::vector<double> values;
    if (options_.dtype == dist::DType::f64) {
      copy_values<double>(bytes, values);
    } else {
      copy_values<float>(bytes, values);
    }
    return values;
  }

  Graph graph_;
  NetworkOptions options_;
  std::vector<LayerTime> times_;
  std::vector<dist::Parameter> parameters_;
  std::vector<std::span<std::byte>> parameter_bytes_, gradient_bytes_;
};

}  // namespace

dist::Result<std::unique_ptr<Network>> make_replay_network(const Graph& graph,
                                                           const NetworkOptions& options) {
  Profile profile = estimate_profile(graph, options.batch);
  if (!options.profile.empty()) {
    auto read = read_profile(options.profile);
    DIST_TRY_BECAUSE(read, "replay");
    profile = std::move(*read);
    DIST_TRY_BECAUSE(check_profile(profile, graph), "replay");
  }
  if (!(options.step_ms >= 0 && options.step_ms < 1e9)) {
    return dist::Status::invalid_argument(
        fmt::format("replay: step_ms is {}; it must be in [0, 1e9)", options.step_ms));
  }
  if (options.step_ms > 0) {
    const double total_ns = profile.total_ns();
    if (total_ns <= 0) {
      return dist::Status::invalid_argument(
          "replay: a profile without any time has no proportions");
    }
    for (LayerTime& time : profile.nodes) {
      time.forward_ns *= options.step_ms * 1e6 / total_ns;
      time.backward_ns *= options.step_ms * 1e6 / total_ns;
    }
  }
  return std::unique_ptr<Network>(
      std::make_unique<ReplayNetwork>(graph, options, std::move(profile.nodes)));
}

}  // namespace nn
