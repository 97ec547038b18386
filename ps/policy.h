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

/// A mode and its bound, as one value.
struct Rules {
  /// How many steps a worker may be ahead of the slowest worker whose training has not ended.
  /// 0: all contributions of a step are applied together. kUnlimitedStaleness: nobody waits.
  std::uint64_t steps_ahead = 0;
  /// Whether the staleness histogram means anything.
  bool reports_staleness = false;
  std::string_view strategy_name = "sync-ps";

  static Rules from(Mode mode, const Options& options);

  /// All of it as text, to compare between ranks.
  std::string describe() const;

  /// Parameters may change while a reply that holds them is still on its way.
  bool applies_while_replying() const { return steps_ahead != 0; }
};

/// The decisions for one piece. Workers are known by their number, never by a count of messages.
class Policy {
 public:
  Policy(Rules rules, int workers);

  /// Notes worker's contribution to its step (0 for its first). Error (protocol): it is not the
  /// worker's next one, or an earlier one of it still waits: a contribution counts once.
  Status contribute(int worker, std::uint64_t step);

  /// Whether an update may be applied now.
  bool update_ready() const;

  /// The workers, ascending, whose waiting contributions are applied now, as their mean. The
  /// version grows by one. Only when update_ready().
  std::vector<int> take_update();

  /// Whether worker may have the parameters now: its own contributions are in them, and it is not
  /// further ahead than the rules allow.
  bool may_answer(int worker) const;

  /// The worker has ended: it will contribute no more and holds nobody back. This may make an
  /// update ready.
  void end(int worker);

  /// Updates applied so far, those before a resume included.
  std::uint64_t version() const { return version_; }

  /// The piece comes from a checkpoint in which it had had so many updates. Clocks begin anew.
  void resume(std::uint64_t version) { version_ = version; }

  /// Contributions of a worker that were applied.
  std::uint64_t clock(int worker) const { return workers_[index(worker)].clock; }

  /// The worker whose contribution waits longest, if one does.
  std::optional<int> longest_waiting() const;

  /// Whom worker waits for, with its contribution or with its pull.
  std::vector<int> holding_back(int worker) const;

 private:
  struct Worker {
    std::uint64_t clock = 0;
    bool waiting = false;
    bool ended = false;
  };

  static std::size_t index(int worker) { return static_cast<std::size_t>(worker); }
  bool holds_back(const Worker& other, std::uint64_t clock) const;

  Rules rules_;
  std::vector<Worker> workers_;
  std::deque<int> waiting_;  // in the order of arrival
  std::uint64_t version_ = 0;
};

}  // namespace dist::ps
