// SPDX-License-Identifier: Apache-2.0
#include "ps/push_order.h"

#include "libdist/check.h"

namespace dist::ps {

void PushOrder::add(std::uint32_t piece) {
  DIST_ASSERT(waiting_.empty() || piece > waiting_.back(), "pieces come in ascending order");
  waiting_.push_back(piece);
}

std::uint32_t PushOrder::take() {
  DIST_ASSERT(!waiting_.empty(), "no piece waits");
  if (waiting_.size() > 1 && ahead_.size() < may_overtake_) {
    const auto piece = waiting_.back();
    waiting_.pop_back();
    ahead_.insert(piece);
    return piece;
  }
  const auto piece = waiting_.front();
  waiting_.pop_front();
  if (waiting_.empty()) {
    ahead_.clear();
  } else {
    ahead_.erase(ahead_.begin(), ahead_.lower_bound(waiting_.front()));
  }
  return piece;
}

}  // namespace dist::ps
