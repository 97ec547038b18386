// SPDX-License-Identifier: Apache-2.0
// Walks the sends, or the receives, of a plan segment by segment.
#pragma once

#include <algorithm>
#include <cstdint>

#include "libdist/plan.h"

namespace dist::allreduce {

/// Position in a plan: a round, and an element within its range. Empty ranges are stepped over.
class SegmentCursor {
 public:
  /// `side` is &Round::send or &Round::receive. The plan must outlive the cursor.
  SegmentCursor(const Plan& plan, Range Round::*side, std::uint64_t segment_elems)
      : plan_(&plan), side_(side), segment_elems_(segment_elems) {
    skip_empty();
  }

  bool at_end() const { return round_ == plan_->rounds.size(); }
  std::size_t round() const { return round_; }
  const Round& hop() const { return plan_->rounds[round_]; }

  /// The segment at the cursor; not at the end.
  Range segment() const {
    return {position_, std::min(position_ + segment_elems_, (hop().*side_).end)};
  }

  void step() {
    position_ = segment().end;
    if (position_ != (hop().*side_).end) return;
    ++round_;
    skip_empty();
  }

  /// Whether the cursor has left behind everything of `round` before element `limit`, and all
  /// earlier rounds.
  bool passed(std::size_t round, std::uint64_t limit) const {
    return round_ > round || (round_ == round && position_ >= limit);
  }

 private:
  void skip_empty() {
    while (!at_end() && (hop().*side_).empty()) ++round_;
    if (!at_end()) position_ = (hop().*side_).begin;
  }

  const Plan* plan_;
  Range Round::*side_;
  std::uint64_t segment_elems_;
  std::size_t round_ = 0;
  std::uint64_t position_ = 0;
};

}  // namespace dist::allreduce
