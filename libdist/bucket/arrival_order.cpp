// SPDX-License-Identifier: Apache-2.0
#include "libdist/bucket/arrival_order.h"

#include <fmt/format.h>

#include <array>

#include "libdist/check.h"

namespace dist {

ArrivalOrder::ArrivalOrder(std::size_t parameters) : seen_(parameters, false) {}

void ArrivalOrder::note(std::size_t parameter) {
  DIST_ASSERT(parameter < seen_.size(), "note() of a parameter that is not there");
  if (seen_[parameter]) return;
  seen_[parameter] = true;
  order_.push_back(parameter);
}

Result<std::vector<std::size_t>> ArrivalOrder::agree(Group& group) const {
  std::array<std::uint64_t, 2> counts = {seen_.size(), ~std::uint64_t{seen_.size()}};
  DIST_TRY_BECAUSE(group.all_reduce(counts, Reduction::max), "arrival order");
  if (counts[0] != seen_.size() || ~counts[1] != seen_.size()) {
    return Status::invalid_argument(
        fmt::format("arrival order: this rank has {} parameters, others have {} to {}; start every "
                    "rank with the same model",
                    seen_.size(), ~counts[1], counts[0]));
  }
  std::vector<std::uint64_t> agreed(order_.begin(), order_.end());
  for (std::size_t p = seen_.size(); p-- > 0;) {
    if (!seen_[p]) agreed.push_back(p);
  }
  DIST_TRY_BECAUSE(group.broadcast(agreed), "arrival order");
  return std::vector<std::size_t>(agreed.begin(), agreed.end());
}

}  // namespace dist
