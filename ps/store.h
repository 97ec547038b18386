// SPDX-License-Identifier: Apache-2.0
// What a server holds: the parameters and optimizer state of its shard, the contributions that
// wait, and how stale they were. No transport: the server moves bytes, the store gives them
// meaning.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "libdist/checkpoint/snapshot.h"
#include "libdist/memory/mapping.h"
#include "libdist/status.h"
#include "libdist/trace.h"
#include "libdist/types.h"
#include "libdist/update.h"
#include "ps/policy.h"
#include "ps/shard.h"
#include "ps/staging.h"

namespace dist::ps {

struct StoreOptions {
  std::shared_ptr<const ShardMap> map;
  int server = 0;
  int workers = 1;
  DType dtype = DType::f32;
  UpdateRule rule;
  Rules rules;
  Bytes alias_window;  ///< of the arena; the store's memory follows it
};

/// Pieces are named by their place `at` in the server's own list. Not thread-safe.
class Store {
 public:
  /// Entry i of the histogram counts steps of staleness i, the last one all older ones.
  static constexpr std::size_t kHistogramEntries = 65;

  /// Maps memory for the shard's parameters and state. Error: resource.
  static Result<std::unique_ptr<Store>> create(StoreOptions options, Trace& trace);

  std::size_t pieces() const { return entries_.size(); }
  const Piece& piece(std::size_t at) const;
  const Policy& policy(std::size_t at) const { return entries_[at].policy; }

  /// The piece's parameters. Written by whoever initialises it, later by apply() alone.
  std::span<std::byte> parameters(std::size_t at) const;
  void mark_initialised(std::size_t at) { entries_[at].initialised = true; }
  bool initialised(std::size_t at) const { return entries_[at].initialised; }

  /// A worker's gradient of the piece for its `step`, computed from `version` of the parameters.
  /// `data` stays readable until it is applied; it may lie in `buffer`, which is then given back.
  /// Error (protocol): not the worker's next contribution, not the version it was given.
  Status contribute(std::size_t at, int worker, std::uint64_t step, std::uint64_t version,
                    std::span<const std::byte> data, Staging::Buffer buffer);

  /// Applies the next update of the piece: sums its contributions in the order of libdist/plan.h,
  /// block by block, and hands each block to the updater while it is in the cache. Only when the
  /// policy says update_ready().
  void apply(std::size_t at);

  /// Whether worker may have the piece now, and the note that it was given: what it was.
  bool may_answer(std::size_t at, int worker) const;
  struct Given {
    std::uint64_t version = 0;
    std::uint64_t staleness = 0;  ///< of the worker's last contribution to this piece
  };
  Given give(std::size_t at, int worker);

  /// See Policy::end().
  void end(int worker);

  /// A copy of the whole shard as it stands, for the checkpoint of step `step`.
  checkpoint::Snapshot snapshot(std::uint64_t step) const;

  /// Takes state and versions from a checkpoint; the parameters come from worker 0 as always, who
  /// has them from the same one. Before the first contribution.
  Status resume(const checkpoint::Source& source);

  /// Since when the oldest contribution to the piece waits, if any does.
  std::optional<TimePoint> waiting_since(std::size_t at) const;

  /// How old the gradients were when they were applied: versions of a piece applied between the
  /// worker's pull and the apply of its push. One count a worker and step: the largest of its
  /// pieces on this server.
  const std::vector<std::uint64_t>& staleness_histogram() const { return histogram_; }

 private:
  struct Contribution {
    std::span<const std::byte> data;
    Staging::Buffer buffer;
    std::uint64_t given_version = 0;
    std::uint64_t staleness = 0;
  };
  struct Entry {
    Policy policy;
    std::vector<Contribution> contributions;  // by worker
    TimePoint waiting_since;
    bool initialised = false;
  };
  struct StepStaleness {
    std::uint64_t largest = 0;
    std::size_t pieces = 0;
  };

  Store(StoreOptions options, Trace& trace, Updater updater, Mapping parameters);
  void sum_and_update(std::size_t at, const std::vector<int>& workers);
  void update_chunk(std::size_t at, const std::vector<int>& ordered, Range chunk);
  void note_staleness(std::size_t at, int worker, std::uint64_t version_before);

  const StoreOptions options_;
  Trace& trace_;
  Updater updater_;
  Mapping parameters_;
  std::vector<std::byte> block_;      // a sum on its way to the updater
  std::deque<Entry> entries_;         // entries do not move
  std::vector<StepStaleness> steps_;  // by worker
  std::vector<std::uint64_t> histogram_;
};

}  // namespace dist::ps
