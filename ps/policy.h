// SPDX-License-Identifier: Apache-2.0
// The only file in which the ways of the parameter server differ: synchronous, asynchronous, and
// bounded staleness between them. It decides when a contribution may be applied and when a pull may
// be answered, for one piece. Pure: no data, no transport, no clock.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libdist/options.h"
#include "libdist/status.h"

namespace dist::ps {

enum class Mode : std::uint8_t {
  sync,   ///< a step applies the mean of all workers' gradients
  async,  ///< every gradient is applied on arrival, within options.staleness
};

/// A mode and its options, as one value.
struct Rules {
  /// How many steps a worker may be ahead of the slowest worker whose training has not ended.
  /// 0: all contributions of a step are applied together. kUnlimitedStaleness: nobody waits.
  std::uint64_t steps_ahead = 0;
  /// Together: a step does without that many of its workers (Chen et al. 2016, "Revisiting
  /// distributed synchronous SGD"). 0: it waits for all.
  int backup_workers = 0;
  /// Whether the staleness histogram means anything.
  bool reports_staleness = false;
  /// Whether a gradient counts the less the staler it is, see gradient_scale().
  bool staleness_rate = false;
  /// lambda of delay compensation, see ps/compensation.h; 0 = none.
  double delay_compensation = 0;
  std::string_view strategy_name = "sync-ps";

  static Rules from(Mode mode, const Options& options);

  /// What cannot be done with so many workers, with this optimizer (its name), in this world.
  /// Error: invalid_argument, it says what can.
  Status check(int workers, std::string_view optimizer, bool deterministic) const;

  /// All of it as text, to compare between ranks.
  std::string describe() const;

  /// All contributions of a step are applied as one update, their mean.
  bool together() const { return steps_ahead == 0; }

  /// Parameters may change while a reply that holds them is still on its way.
  bool applies_while_replying() const { return steps_ahead != 0 || backup_workers != 0; }

  /// Whether a contribution may be dropped. Then workers wait for others in no common order of
  /// pieces, and no bound on the memory of what waits is safe.
  bool may_drop() const { return backup_workers != 0; }

  /// By what a gradient is multiplied that is `staleness` versions old: 1, or with staleness_rate
  /// 1 / max(1, staleness), the staleness-aware learning rate of Zhang et al. 2016
  /// ("Staleness-aware async-SGD", equation 6). Given to the gradient rather than to the learning
  /// rate it is the same for sgd; with a velocity it is the share of this gradient in all later
  /// steps, and does not slow down the others.
  double gradient_scale(std::uint64_t staleness) const;
};

/// The decisions for one piece. Workers are known by their number, never by a count of messages.
///
/// A worker's clock counts its own contributions that were dealt with: applied or, with backup
/// workers, dropped. A contribution belongs to the version of the piece that the worker was given
/// before it; together it is applied to that version or not at all. So a worker that comes late
/// loses one contribution, is given the newest version at its next pull, and goes on from there:
/// its clock says how often it has contributed, not which version it has.
class Policy {
 public:
  Policy(Rules rules, int workers);

  enum class Verdict : std::uint8_t {
    waits,    ///< it is part of a later take_update()
    dropped,  ///< its version has been left behind; it is not to be kept
  };

  /// Notes worker's contribution to its step (0 for its first). Error (protocol): it is not the
  /// worker's next one, or an earlier one of it still waits: a contribution counts once.
  Result<Verdict> contribute(int worker, std::uint64_t step);

  /// Whether an update may be applied now.
  bool update_ready() const;

  struct Update {
    std::vector<int> applied;  ///< workers, ascending: the update is the mean of theirs
    std::vector<int> dropped;  ///< those whose contributions came too late for it
  };

  /// Whose waiting contributions are dealt with now. The version grows by one. Only when
  /// update_ready().
  Update take_update();

  /// Whether worker may have the parameters now: `steps` contributions of its own have been dealt
  /// with, and it is not further ahead than the rules allow.
  bool may_answer(int worker, std::uint64_t steps) const;

  /// The worker has the parameters of version() now.
  void give(int worker) { workers_[index(worker)].given = version_; }

  /// The worker has ended: it will contribute no more and holds nobody back. This may make an
  /// update ready.
  void end(int worker);

  /// The step with which a worker that comes now would go on: together the one that the others
  /// contribute to, else that of the slowest.
  std::uint64_t joining_step() const;

  /// A worker that is not there comes, or comes back: its next contribution is the one to `step`,
  /// at least joining_step(); until the parameters are as old as that, it is not waited for.
  void join(int worker, std::uint64_t step);

  /// The worker is gone. Its contribution, if one waits, is forgotten: true if there was one.
  bool leave(int worker);

  /// Updates applied so far, those before a resume included.
  std::uint64_t version() const { return version_; }

  /// The version that the worker was given last.
  std::uint64_t given(int worker) const { return workers_[index(worker)].given; }

  /// The piece comes from a checkpoint in which it had had so many updates. Clocks begin anew.
  void resume(std::uint64_t version) { version_ = resumed_at_ = version; }

  /// See above.
  std::uint64_t clock(int worker) const { return workers_[index(worker)].clock; }

  /// Contributions that came too late, and those that came again and were refused.
  std::uint64_t dropped() const { return dropped_; }
  std::uint64_t doubled() const { return doubled_; }

  /// The worker whose contribution waits longest, if one does.
  std::optional<int> longest_waiting() const;

  /// Whom worker waits for, with its contribution or with its pull.
  std::vector<int> holding_back(int worker) const;

 private:
  struct Worker {
    std::uint64_t clock = 0;
    std::uint64_t given = 0;
    std::uint64_t from_version = 0;  // together: the first it contributes to
    bool waiting = false;
    bool ended = false;
  };

  static std::size_t index(int worker) { return static_cast<std::size_t>(worker); }
  bool missing(const Worker& other) const {
    return !other.waiting && !other.ended && other.from_version <= version_;
  }
  void skip_abandoned_steps();
  bool holds_back(const Worker& other, std::uint64_t clock) const;
  void settle(int worker);

  Rules rules_;
  std::vector<Worker> workers_;
  std::deque<int> waiting_;  // in the order of arrival
  std::uint64_t version_ = 0;
  std::uint64_t resumed_at_ = 0;  // the version of step 0
  std::uint64_t dropped_ = 0;
  std::uint64_t doubled_ = 0;
};

}  // namespace dist::ps
