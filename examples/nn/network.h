// SPDX-License-Identifier: Apache-2.0
// One replica of a graph for a fixed batch, whatever computes it. The trainer sees only this
// header. Parameters and gradients live in memory that the caller owns (the arena); nothing is
// packed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "examples/nn/graph.h"
#include "libdist/bucket/arena.h"
#include "libdist/memory/device.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace nn {

enum class Mode { train, evaluate };

/// What a backend on a GPU computes in. Parameters and gradients in the arena are f32 in all of
/// them, the gradients those of the loss itself.
enum class Precision : std::uint8_t {
  f32,
  tf32,  ///< f32 values, multiplied with 10 bits of mantissa
  f16,   ///< with a loss scale of its own; a step that overflows leaves gradients not finite
  bf16,
};
std::string_view name_of(Precision precision);  ///< "f32", "tf32", "f16", "bf16"

/// `images` is [batch, channels, height, width]; `labels` is [batch], each in [0, classes).
struct Batch {
  std::span<const float> images;
  std::span<const std::int32_t> labels;
  bool on_device = false;  ///< Both lie on the network's device and are read on its stream.
};

/// Times of one node in the last train step; 0 when timing is off or the part did not run.
struct LayerTime {
  std::string name;
  double forward_ns = 0;
  double backward_ns = 0;
};

struct NetworkOptions {
  std::int64_t batch = 32;
  dist::DType dtype = dist::DType::f32;
  std::uint64_t dropout_seed = 0;  ///< Give each worker another one.
  bool timing = false;             ///< Fill layer_times().
  int threads = 1;  ///< Of this replica's arithmetic; 0 leaves it to the backend. ref uses one.
  std::string profile = {};  ///< replay: file of layer times; empty: made up from the graph.
  double step_ms = 0;        ///< replay: scales forward + backward to this; 0 leaves the profile's.

  // For backends on a GPU.
  dist::Device* device = nullptr;  ///< The arena's; outlives the network.
  dist::Stream stream = {};        ///< The arena's, not the default one.
  Precision precision = Precision::f32;
  bool capture = true;         ///< Record each pass once and launch it as a whole (CUDA graphs).
  int segments = 1;            ///< Pieces of a pass between which ready() and await() are called.
  bool deterministic = false;  ///< Equal inputs give equal bits, where that costs speed too.
  /// forward() does not wait for the device: it returns the newest loss that has arrived, not a
  /// number before the first. last_loss() waits.
  bool deferred_loss = false;
  dist::Duration timeout = std::chrono::seconds(120);  ///< Of waits for the device.
};

/// Not thread-safe: one thread drives a replica. ready() is called on that thread.
class Network {
 public:
  virtual ~Network() = default;

  virtual const Graph& graph() const = 0;
  virtual const NetworkOptions& options() const = 0;

  /// In backward order (Graph::backward_order), named as in the graph, with as many elements as
  /// this backend's layout needs, which may be more than the plain count.
  virtual const std::vector<dist::Parameter>& parameters() const = 0;

  /// What this replica will hold once bound, parameters and gradients included; 0: nothing to speak
  /// of.
  virtual std::uint64_t needed_bytes() const { return 0; }

  /// Spans into the arena, one a parameter, in the order of parameters(), 64-byte aligned; the
  /// memory outlives the network. Called once, before anything below. Allocates the activations.
  virtual dist::Status bind(std::vector<std::span<std::byte>> parameters,
                            std::vector<std::span<std::byte>> gradients) = 0;

  /// Writes the graph's initial values (equal for all backends) into the parameters.
  virtual void initialize(std::uint64_t seed);

  /// Mean loss of the batch (but see deferred_loss). Mode::train keeps what backward needs and
  /// moves running statistics. Calls await(i), i an index into parameters(), once a parameter
  /// before the pass reads it, in the order of the pass: parameters may still be on their way when
  /// it starts.
  virtual double forward(const Batch& batch, Mode mode,
                         const std::function<void(std::size_t parameter)>& await) = 0;
  double forward(const Batch& batch, Mode mode) {
    return forward(batch, mode, [](std::size_t) {});
  }

  /// Of the last forward: the share of the batch whose label was the most probable class (of
  /// equally probable ones the first). replay: 0.
  virtual double accuracy() const = 0;

  /// With deferred_loss: waits, and returns the loss of the last forward pass.
  virtual double last_loss() { return std::numeric_limits<double>::quiet_NaN(); }

  /// After bind(): the next train forward is number `step` (from 0) of its run, so that dropout
  /// draws what it would have drawn there.
  virtual void resume_at(std::uint64_t /*step*/) {}

  /// Gradients of the mean loss of the last train forward; overwrites the bound gradients. Calls
  /// ready(i), i an index into parameters(), once a parameter as soon as its gradient is final:
  /// ascending i.
  virtual void backward(const std::function<void(std::size_t parameter)>& ready) = 0;

  /// Parameter i of parameters() in plain layout (conv oihw, dense oi), for hashes, checkpoints,
  /// tests.
  virtual std::vector<double> plain_parameter(std::size_t i) const = 0;
  virtual std::vector<double> plain_gradient(std::size_t i) const = 0;
  virtual void set_plain_parameter(std::size_t i, std::span<const double> values) = 0;

  /// Equal on two ranks exactly when their arenas mean the same thing element by element: names,
  /// sizes, element type, and the layout where it is not the plain one. Compare at start.
  virtual std::uint64_t layout_hash() const;

  /// One entry a node of the graph; empty when options().timing is off.
  virtual std::vector<LayerTime> layer_times() const = 0;

  /// What was chosen where there was a choice (algorithms, recorded passes), a line each.
  virtual std::vector<std::string> notes() const { return {}; }
};

/// A replica by backend name: "ref", "onednn", "cudnn", "replay". Errors: an unknown name (the
/// message lists the valid ones), a backend that is not in this build, a batch < 1, activations
/// that do not fit in this machine's memory, an unreadable profile.
dist::Result<std::unique_ptr<Network>> make_network(std::string_view backend, const Graph& graph,
                                                    const NetworkOptions& options);

/// The names make_network knows, "ref, onednn, cudnn, replay".
std::string_view backend_names();

}  // namespace nn
