// SPDX-License-Identifier: Apache-2.0
// The strategy of those who reduce among equals: buckets in order, one exchange behind them, chosen
// when all ranks have met. Where the arena lies, and what updates it, is its side's matter.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "allreduce/exchange.h"
#include "libdist/bucket/arena.h"
#include "libdist/bucket/bucket.h"
#include "libdist/checkpoint/snapshot.h"
#include "libdist/status.h"
#include "libdist/strategy.h"
#include "libdist/update.h"
#include "libdist/world.h"

namespace dist::allreduce {

/// What the strategy does not know of its arena. Of one rank; called by the training thread.
class RingSide {
 public:
  virtual ~RingSide() = default;

  /// Of the strategy, for its name() and messages.
  virtual std::string_view name() const = 0;
  virtual const Update& update() const = 0;

  /// This rank's number among the workers, and how many they are.
  virtual Rank rank() const = 0;
  virtual int ranks() const = 0;

  /// Collective, in begin(); `buckets` outlive the exchange, and this does. All ranks decide alike.
  virtual Result<std::unique_ptr<Exchange>> choose_exchange(const std::vector<Bucket>& buckets) = 0;

  /// Fills all parameters from a checkpoint.
  virtual Status read_parameters(const checkpoint::Source& source) = 0;
  /// Fills the state of a range.
  virtual Status load_state(const checkpoint::Source& source, Range range) = 0;
  /// Adds parameters and state of a range, which hold `version` updates.
  virtual Status add_range(checkpoint::Snapshot* snapshot, Range range, std::uint64_t version) = 0;

  /// All gradients become the neutral element of the sum: -0.
  virtual Status contribute_nothing() = 0;
};

/// `world` (which may be moved), `arena` and what `side` works on outlive it.
std::unique_ptr<Strategy> make_ring_strategy(World& world, Arena& arena,
                                             std::unique_ptr<RingSide> side);

/// Sums words over all ranks, in place: any number of them, the same on every rank, whatever else
/// differs between ranks. `what` heads errors.
Status sum_over_ranks(Progress& progress, Trace& trace, const Options& options,
                      std::span<std::uint64_t> words, std::string_view what);

}  // namespace dist::allreduce
