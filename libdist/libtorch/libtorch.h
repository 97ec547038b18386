// SPDX-License-Identifier: Apache-2.0
// Data-parallel training of a LibTorch module: one line before the loop, the loop stays as it is.
//
//   auto parallel = dist::libtorch::attach(*net, world).value();  // after load() and to()
//   for (auto& batch : *loader) {
//     optimizer.zero_grad();
//     loss(net->forward(batch.data), batch.target).backward();    // exchanges while it runs
//     optimizer.step();                                           // with the mean gradient
//   }
//   parallel.end().value();
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>
#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "libdist/dist.h"

namespace dist::libtorch {

/// Who keeps the module's buffers (the running statistics of batch norm) equal.
enum class Buffers : std::uint8_t {
  broadcast,  ///< rank 0's go to all at attach() and at synchronize_buffers()
  keep,       ///< every rank keeps its own
};

/// A GPU of LibTorch as the library uses it.
struct Accelerator {
  std::shared_ptr<Device> device;  ///< kept by the tensors whose memory it is
  Stream stream{};                 ///< what LibTorch computes on there
};

/// How attach() attaches; the same on every rank.
struct AttachOptions {
  /// "ring", "sync-ps", "async-ps" or "none".
  std::string strategy = "ring";

  /// MeanGradient: the program's own torch optimizer steps with the mean gradient ("ring" and
  /// "none"). Any other rule, with its schedule and clipping: the library updates the parameters at
  /// the end of each backward pass, on the ranks or at the servers, and sets the gradients to zero.
  Update update = MeanGradient{};

  /// Something broke the attachment (see Parallel::repairs): an exception instead of a repair.
  bool strict = false;

  /// Exchange in the order in which rank 0's first backward pass finished its gradients; that first
  /// exchange hides nothing yet. Off: in reverse order of registration. Not with dedicated servers.
  bool arrival_order = true;

  Buffers buffers = Buffers::broadcast;  ///< running statistics and other buffers

  /// Where save() writes; with `resume`, attach() begins where the newest checkpoint ended:
  /// parameters, buffers and the state of the library's update.
  std::optional<CheckpointOptions> checkpoints = {};

  /// Asked once for each of LibTorch's devices, other than the CPU, that has parameters. Empty: the
  /// GPU of that number, and CUDA's default stream. A program that computes on a stream of its own
  /// names it here, and has it as LibTorch's current one in attach() and ever after.
  std::function<Result<Accelerator>(torch::Device)> accelerator = {};
};

/// A module whose gradients are exchanged at the end of each backward pass. All calls, and
/// backward(), come from one thread. Errors of an exchange leave backward() as std::runtime_error.
/// Destroyed, it leaves the module as it found it, but for values and addresses.
class Parallel {
 public:
  /// Backward passes during its life accumulate gradients without an exchange; the next one after
  /// it exchanges the accumulated sums.
  class Accumulation {
   public:
    ~Accumulation() { --*depth_; }
    Accumulation(const Accumulation&) = delete;
    Accumulation& operator=(const Accumulation&) = delete;

   private:
    friend Parallel;
    explicit Accumulation(int* depth) : depth_(depth) { ++*depth_; }
    int* depth_;
  };

  /// Only what is attached moves; a Parallel that was moved from may only be destroyed.
  Parallel(Parallel&&) noexcept;
  /// Detaches what was here.
  Parallel& operator=(Parallel&&) noexcept;
  ~Parallel();

  /// optimizer.step() where the update is the program's, else only what the last exchange cost. If
  /// no backward pass reached a parameter since the last step, this rank contributes zeros: without
  /// it the others would wait. (Optional: a loop in which every backward() reaches parameters may
  /// call optimizer.step() itself.)
  Result<StepReport> step(torch::optim::Optimizer& optimizer);

  /// The same where there is no torch optimizer. Asserts that the library updates.
  Result<StepReport> step();

  /// Begins to accumulate, until the scope ends; they may nest. The Parallel outlives it.
  [[nodiscard]] Accumulation accumulate();

  /// Rank 0's buffers become everybody's: before an evaluation or a checkpoint. Collective among
  /// the workers, between steps. Nothing happens with Buffers::keep.
  Status synchronize_buffers();

  /// A checkpoint of the whole: parameters, buffers, the library's update or `optimizer`. Written
  /// in the background; of sync strategies every rank calls it after the same step. Returns the
  /// failure of the one before it. Needs AttachOptions::checkpoints.
  Status save(const torch::optim::Optimizer& optimizer);
  /// The same without an optimizer of the program's.
  Status save();

  /// How many steps the job that is resumed had made; 0: it begins anew.
  std::uint64_t first_step() const;

  /// Gives the program's optimizer of a job that is resumed the state that save() wrote. Else does
  /// nothing.
  Status restore(torch::optim::Optimizer& optimizer) const;

  /// After torch::load() or module->to(): takes the parameters as they are now, as rank 0 has them,
  /// and goes on with a new arena. Collective among all ranks, between steps. State of the
  /// library's update starts anew; that of a torch optimizer is the program's. Not with
  /// checkpoints.
  Status reattach();

  /// Uneven data: this rank has no more batches, others may. In place of the next step; end()
  /// follows. Stands by, contributing nothing (means are over those who do), until no rank has
  /// data; the program's optimizer goes on with the others' means, so that replicas stay equal.
  Status join(torch::optim::Optimizer& optimizer);

  /// The same where the library updates.
  Status join();

  /// Training is over: waits for the others, and for checkpoints to be written. On a rank that only
  /// serves, serves until then.
  Status end();

  /// How many ranks contribute gradients.
  int workers() const;
  /// This one's number among them; -1: it only serves.
  int worker() const;

  /// Breaches found and mended so far: hooks lost by to() or load(), parameters moved out of the
  /// arena, gradients dropped by zero_grad(true) or replaced, sparse gradients. The first of each
  /// kind was logged as a warning.
  std::uint64_t repairs() const;

 private:
  friend Result<Parallel> attach(torch::nn::Module&, World&, AttachOptions);
  struct State;
  explicit Parallel(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Makes all ranks' parameters and buffers those of rank 0, and moves parameters and gradients into
/// an arena (same tensors, new addresses), so call it after load() and to(); an optimizer may be
/// made before or after. Parameters that require no gradient are left out, shared ones taken once.
/// The module's class, names and methods stay. `world` stays in place and outlives the Parallel,
/// the module does not need to. Collective. Parameters may be of both types, f32 and f64, and on
/// several devices, where the strategy is "ring" or "none", and without clip_norm; their
/// checkpoints are then a directory each, of several devices only where the library updates.
/// Errors: no parameter requires a gradient; parameters of another type, on a device that the
/// library cannot use, or not dense (the message names one); ranks with other types or kinds of
/// devices; what make_strategy() refuses.
Result<Parallel> attach(torch::nn::Module& module, World& world, AttachOptions options = {});

}  // namespace dist::libtorch
