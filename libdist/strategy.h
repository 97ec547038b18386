// SPDX-License-Identifier: Apache-2.0
// A strategy places the three acts of a training step: reduce the gradients, update the parameters,
// broadcast the result. The training loop calls the same verbs whatever the strategy.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "libdist/checkpoint/snapshot.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// What one step of one rank cost. Times are wall clock of this rank.
struct StepReport {
  std::uint64_t step = 0;      ///< 0 for the first; with backup workers the newest step that is in
                               ///< the parameters: a late worker leaves some out
  std::string_view algorithm;  ///< how gradients were exchanged: "fused sweep", "ring", ...
  Bytes bytes_sent;  ///< payload this rank sent in the step, also as a server; within a host also
                     ///< what the others read out of its arena
  Duration communication_busy{0};  ///< some exchange of the step was in flight
  Duration communication_exposed{
      0};  ///< finish_step() and await() waited for the exchange: not hidden behind compute
  Duration communication_exposed_bound{
      0};              ///< what nobody could have hidden: the moments at which the step's buckets
                       ///< were ready, replayed on a link as fast as this run has shown it (alpha +
                       ///< beta * bytes); 0 where nothing travels beside the backward pass (fused
                       ///< sweep) and at parameter servers, where it is not computed
  Duration update{0};  ///< time in the update on the caller's thread (0 when a server does it); of
                       ///< the fused sweep the whole sweep: reading the gradients is part of it
  Bytes memory_saved;  ///< parameters and optimizer state that this rank does without since ranks
                       ///< share or split them, on average over the ranks
  Bytes compression_saved;      ///< payload that this rank did not send since it was compressed
  Duration compression{0};      ///< in compressing and decompressing, beside the training thread
  int contributors = 0;         ///< ring: whose mean the step applied; 0: nobody has data any more,
                                ///< nothing was applied
  std::uint64_t staleness = 0;  ///< async: versions applied between this worker's pull and its push
};

/// What a rank does without, on average, since `ranks` of them keep `whole` once together and not
/// each for itself.
constexpr Bytes saved_by_sharing(Bytes whole, int ranks) {
  return whole - Bytes(whole.value / static_cast<std::uint64_t>(ranks));
}

/// What the parameter server(s) of this rank did with what workers pushed. A contribution is one
/// worker's gradient of one piece of the parameters in one step.
struct ServerReport {
  std::uint64_t applied = 0;  ///< contributions that are in the parameters
  std::uint64_t dropped = 0;  ///< those that came after their step (backup workers)
  std::uint64_t doubled = 0;  ///< those that came again, and were refused
  /// Entry i counts steps whose gradients were i versions old when they were applied: versions of a
  /// piece applied between the worker's pull and its push, the largest of a worker's step. The last
  /// entry counts all older ones. Empty where the notion does not apply.
  std::vector<std::uint64_t> staleness;
  std::uint64_t staleness_max = 0;  ///< versions
  double staleness_mean = 0;        ///< versions
  double imbalance = 0;  ///< elements of the fullest server over the mean of all, on every rank
};

/// A checkpoint that is being written.
struct Saving {
  std::uint64_t step = 0;  ///< steps whose updates it holds
  int shards = 0;          ///< of so many ranks together
};

/// One replica's side of the exchange. All calls come from one thread, the training thread.
class Strategy {
 public:
  virtual ~Strategy() = default;

  /// One of strategy_names().
  virtual std::string_view name() const = 0;

  /// How many ranks contribute gradients.
  virtual int workers() const = 0;

  /// This rank's number among the workers, or -1 on a rank that only serves.
  virtual int worker() const = 0;

  /// Makes all replicas equal to worker 0's parameters. Call once, after parameters were
  /// initialised.
  virtual Status begin() = 0;

  /// After begin(): the step that comes next. 0 at first; later for a worker that joins a training
  /// under way (Options::elastic).
  virtual std::uint64_t next_step() const = 0;

  /// The gradient of parameter `index` (its place in the arena) is final for this step; the library
  /// may read it until finish_step() returns. Once a parameter and step, in any order. Never
  /// blocks; a failure shows in finish_step().
  virtual void ready(std::size_t index) = 0;

  /// Waits until parameter `index` is that of the next step, so that the next forward pass can
  /// start while others are still on their way. Optional, after the last ready() of a step and
  /// before its finish_step(), any number of times; the first call says that the backward pass is
  /// over. Asserts that every parameter was ready.
  virtual Status await(std::size_t index) = 0;

  /// Waits until all of this rank's parameters are those of the next step; comes before the first
  /// ready() of that step. Asserts that every parameter was ready.
  virtual Result<StepReport> finish_step() = 0;

  /// Uneven data: this worker has none left, others may. Comes between two steps, in place of the
  /// next one; end() follows. Stands by without contributing (means are over those who do) until no
  /// worker has data; then all workers hold the same parameters. With the rule mean-gradient the
  /// program updates this replica too: `update` is called after each step of the others, with their
  /// mean in the arena's gradients; it is an error to leave it out then, and unused otherwise.
  virtual Status join(const std::function<void()>& update = {}) = 0;

  /// One step of join(); false: no worker has data any more. For several strategies of one world,
  /// which are joined side by side: stand_by() of each, in the order of their steps, then the
  /// program's update where it has one, until they say false.
  virtual Result<bool> stand_by() = 0;

  /// The training loop is over: says so to the others and waits until they need this rank no more.
  /// On a rank that only serves (worker() == -1) this serves until all workers have ended.
  virtual Status end() = 0;

  /// Of the server on this rank; counts are zero where there is none.
  virtual ServerReport server_report() const { return {}; }

  /// Between begin() and end(), between two steps, on every rank that trains: the sinks of all
  /// ranks that own elements are given copies of them, at once or soon. Of sync strategies all
  /// ranks call it after the same step. See Checkpoints::save().
  virtual Result<Saving> save() = 0;

  /// Where save() puts what this rank owns, and where begin() takes parameters, the state of the
  /// update and its versions from; null: nowhere. Before begin(), on every rank alike; both outlive
  /// the strategy. See Checkpoints::attach().
  void use_checkpoints(checkpoint::Sink* sink, const checkpoint::Source* source) {
    checkpoint_sink_ = sink;
    checkpoint_source_ = source;
  }

 protected:
  checkpoint::Sink* checkpoint_sink_ = nullptr;            ///< null: nothing is saved
  const checkpoint::Source* checkpoint_source_ = nullptr;  ///< null: begins anew
};

}  // namespace dist
