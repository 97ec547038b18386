// SPDX-License-Identifier: Apache-2.0
// Walks any plan over any transport. Ranges travel in segments, several of them in flight; a
// segment of the next round leaves as soon as the elements it carries have arrived.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/segment_cursor.h"
#include "libdist/plan.h"
#include "libdist/progress.h"

namespace dist::allreduce {

class Executor final : public Task {
 public:
  /// `options.data` holds plan.elems elements. The plans of all ranks must match: what a rank sends
  /// in a round its peer receives in the same round, with the same segment_bytes.
  Executor(Plan plan, AllReduceOptions options, Trace& trace);

  Result<Advance> advance(Transport& transport) override;
  std::string waits_for() const override;

 private:
  // What must have happened before a round may touch its ranges: the latest earlier round whose
  // receive (or send) meets them, if any. Everything ends in plan order, so the latest is enough.
  struct Hazards {
    std::optional<std::size_t> receive_before_send;
    std::optional<std::size_t> send_before_receive;
    std::optional<std::size_t> receive_before_receive;
  };

  // A message on its way; `scratch` is where a segment to be reduced lands.
  struct Flight {
    Operation operation;
    std::size_t round = 0;
    Range segment;
    std::byte* scratch = nullptr;
  };

  void find_hazards();
  bool may_send(std::size_t round, Range segment) const;
  bool may_write(std::size_t round, Range segment) const;
  bool passed(const SegmentCursor& done, std::optional<std::size_t> before, Range Round::*side,
              Range segment) const;
  bool post_receives(Transport& transport);
  bool post_sends(Transport& transport);
  Result<bool> finish_receive(Transport& transport);
  Result<bool> finish_sends(Transport& transport);
  void reduce(const Flight& flight);
  void finish_mean();
  Rank peer(Rank rank) const {
    return options_.members ? (*options_.members)[static_cast<std::size_t>(rank)] : rank;
  }
  std::span<std::byte> bytes(Range segment) const;
  Status told(const Status& why, std::size_t round, bool receiving) const;
  void trace_round(Activity activity, std::size_t round, Range range, TimePoint* since);

  const Plan plan_;
  const AllReduceOptions options_;
  Trace& trace_;
  const std::uint64_t segment_elems_;
  std::vector<Hazards> hazards_;
  std::unique_ptr<std::byte[]> scratch_;
  std::uint64_t slot_bytes_ = 0;
  std::uint64_t reduces_posted_ = 0;
  SegmentCursor next_receive_;  // the next to post
  SegmentCursor received_;      // the first that has not ended
  SegmentCursor next_send_;
  SegmentCursor sent_;
  std::deque<Flight> receives_;
  std::deque<Flight> sends_;
  TimePoint receiving_since_;
  TimePoint sending_since_;
};

}  // namespace dist::allreduce
