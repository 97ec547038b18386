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
#include "libdist/strategy.h"
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
  Update update = Sgd{};
  Rules rules;
  Bytes alias_window;     ///< of the arena; the store's memory follows it
  UpdateLayout layout{};  ///< of the server's elements; none: one parameter
};

/// Pieces are named by their place `at` in the server's own list. Of one thread, run() excepted.
class Store {
 public:
  /// Entry i of the histogram counts steps of staleness i, the last one all older ones.
  static constexpr std::size_t kHistogramEntries = 65;

  /// Maps memory for the shard's parameters and state. Error: resource.
  static Result<std::unique_ptr<Store>> create(StoreOptions options, Trace& trace);

  std::size_t pieces() const { return entries_.size(); }
  const Piece& piece(std::size_t at) const;
  const Policy& policy(std::size_t at) const { return entries_[at].policy; }

  /// From now on the parameters lie in this memory, laid out as the arena.
  void use_parameters(std::span<std::byte> memory) { outside_ = memory; }

  /// The piece's parameters. Written by whoever initialises it, later by apply() alone.
  std::span<std::byte> parameters(std::size_t at) const;
  void mark_initialised(std::size_t at) { entries_[at].initialised = true; }
  bool initialised(std::size_t at) const { return entries_[at].initialised; }

  /// A worker's gradient of the piece for its `step`, computed from `version` of the parameters.
  /// `data` stays readable until it is applied; it may lie in `buffer`, which is then given back,
  /// at once if the contribution is dropped. Error (protocol): not the worker's next contribution,
  /// not the version it was given.
  Status contribute(std::size_t at, int worker, std::uint64_t step, std::uint64_t version,
                    std::span<const std::byte> data, Staging::Buffer buffer);

  /// An update of a piece on its way: what policy and bookkeeping say of it, and the gradients.
  struct Update {
    std::size_t at = 0;
    std::uint64_t version = 0;                          ///< of the parameters that it changes
    std::vector<int> workers;                           ///< ascending
    std::vector<std::span<const std::byte>> gradients;  ///< theirs
    std::uint64_t age = 0;                              ///< staleness of a single one
    std::size_t summands = 0;  ///< not 0: second half of an update by norms, the mean of so many
  };

  /// Takes the next update of a piece, which is busy until finish(). Only when the policy says
  /// update_ready() and it is not busy.
  Update take_update(std::size_t at);

  /// The arithmetic: sums the gradients in the order of libdist/plan.h and updates by the sum, in
  /// one pass. May be called on any thread, for several pieces at once. Where the update needs
  /// norms it keeps the sums instead.
  void run(const Update& update);

  /// The update is in the parameters: gives its memory back. Where the update needs norms that was
  /// its first half: the piece stays busy until the second one.
  void finish(const Update& update);

  /// Where the update needs norms: whether the sums of all pieces of the step are there, and their
  /// squares (Updater::add_squares()).
  bool sums_complete() const;
  std::vector<double> squares() const;

  /// Then the second halves, one a piece, by the squares of all servers' sums together.
  std::vector<Update> take_updates_by_norms(std::vector<double> squares);

  /// All three.
  void apply(std::size_t at);

  bool busy(std::size_t at) const { return entries_[at].busy; }

  /// Whether worker may have the piece now, with `steps` of its contributions dealt with; and the
  /// note that it was given: what it was.
  bool may_answer(std::size_t at, int worker, std::uint64_t steps) const;
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
  /// has them from the same one, or from there too. Before the first contribution.
  Status resume(const checkpoint::Source& source);
  Status resume_parameters(const checkpoint::Source& source);
  /// See Policy: over all pieces, the latest step.
  std::uint64_t joining_step() const;
  void join(int worker, std::uint64_t step);
  /// Gives back the memory of what waits.
  void leave(int worker);

  /// Whether all pieces have parameters.
  bool ready() const;

  /// Since when the oldest contribution to the piece waits, if any does.
  std::optional<TimePoint> waiting_since(std::size_t at) const;

  /// What was applied, dropped and refused, and how old it was: one count of the histogram a worker
  /// and step in which something of it was applied, the largest of its pieces on this server.
  ServerReport report() const;

 private:
  struct Contribution {
    std::span<const std::byte> data;
    Staging::Buffer buffer;
    std::uint64_t staleness = 0;
  };
  struct Entry {
    Policy policy;
    std::vector<Contribution> contributions;  // by worker
    TimePoint waiting_since;
    bool initialised = false;
    bool busy = false;
    std::size_t summands = 0;  // where norms are needed: of the sum that waits for the others
  };
  struct StepStaleness {
    std::uint64_t largest = 0;
    std::size_t pieces = 0;  // dealt with
    bool applied = false;    // one of them at least
  };

  Store(StoreOptions options, Trace& trace, Updater updater, Mapping parameters,
        std::vector<Mapping> given, Mapping sums);
  std::span<std::byte> shard_bytes(const Mapping& memory, std::size_t at) const;
  void update_from_one(const Update& update);
  void update_chunk(const Update& update, std::size_t first, Range chunk);
  void update_by_norms(const Update& update);
  void note_step(int worker, std::optional<std::uint64_t> staleness);
  void drop(std::size_t at, int worker);

  const StoreOptions options_;
  Trace& trace_;
  Updater updater_;
  Mapping parameters_;
  std::span<std::byte> outside_;  // where they lie instead, if not empty
  std::vector<Mapping> given_;    // by worker: what it was given last; only for delay compensation
  Mapping sums_;                  // like the parameters; only where norms are needed
  std::vector<double> squares_;   // of all servers, while pieces are updated by them
  std::deque<Entry> entries_;     // entries do not move
  std::vector<StepStaleness> steps_;  // by worker
  std::vector<std::uint64_t> histogram_;
  std::uint64_t applied_ = 0;
  std::uint64_t staleness_max_ = 0;
  std::uint64_t staleness_sum_ = 0;
};

}  // namespace dist::ps
