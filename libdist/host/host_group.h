// SPDX-License-Identifier: Apache-2.0
// Ranks of one host that reach each other's memory where it lies, whatever transport they talk
// over, and how they wait for each other: rounds counted in flags, one cache line a member.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "libdist/memory/mapping.h"
#include "libdist/progress.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

struct HostGroupOptions {
  int member = 0;                ///< this rank's number in the group
  int members = 1;               ///< all of them call meet(), and later attach(), in the same order
  std::vector<Rank> ranks = {};  ///< of the members in the world, for messages; none: the same
  Duration timeout = std::chrono::seconds(120);
  /// Sums words over all members, in place: the one thing asked of the transport.
  std::function<Status(std::span<std::uint64_t>)> sum_words;
  /// What else may have failed while this rank waits (the progress thread). May be empty.
  std::function<Status()> failure;
};

/// One member's end. Not thread-safe. Leaving (the destructor) is seen by those who still wait.
class HostGroup {
 public:
  /// Error `unavailable`, on every member alike, where one of them cannot reach another's memory
  /// (another host, container or user); it says which and why.
  static Result<std::unique_ptr<HostGroup>> meet(const HostGroupOptions& options);
  ~HostGroup();
  HostGroup(const HostGroup&) = delete;
  HostGroup& operator=(const HostGroup&) = delete;

  int member() const { return options_.member; }
  int members() const { return options_.members; }

  /// Every member brings a shareable mapping of the same size and gets all of them, in the order of
  /// the members. Errors as meet().
  Result<std::vector<Mapping>> attach(const Mapping& own);

  /// Memory that the first member makes, zeroed, and all map. Errors as meet().
  Result<Mapping> share(Bytes bytes);

  /// Says that this member has come to its next round; what it wrote before is visible to whoever
  /// sees it there. Never blocks. Returns the round.
  std::uint64_t arrive();

  /// Whether all members have come to `round`.
  bool complete(std::uint64_t round) const;

  /// Returns when all have: spins first, then lets others run, then sleeps. Errors: peer_lost,
  /// timed_out; both name the member, and `what` this one waits for.
  Status wait(std::uint64_t round, std::string_view what);

  /// For those who poll complete() since `began`: whether there is still somebody to wait for.
  /// Errors as wait().
  Status check(std::uint64_t round, TimePoint began, std::string_view what) const;

  /// Whether this member contributes to what is done between two rounds; so it does at first.
  /// Others see it when they see its next round.
  void set_contributes(bool contributes);

  /// How many members do; meaningful from a complete round on until this member lets the others go
  /// on to another step.
  int contributors() const;

  /// arrive() and wait().
  Status meet_again(std::string_view what) { return wait(arrive(), what); }

 private:
  struct Line;
  HostGroup(HostGroupOptions options, Mapping lines);
  Line& line(int member) const;

  const HostGroupOptions options_;
  const Mapping lines_;
  const bool crowded_;
  std::uint64_t round_ = 0;
};

}  // namespace dist
