// SPDX-License-Identifier: Apache-2.0
#include "allreduce/host_numbers.h"

#include <algorithm>

namespace dist::allreduce {

Result<HostNumbers> HostNumbers::meet(HostGroup& group, std::size_t count) {
  if (count == 0) return HostNumbers();
  auto own = Mapping::map_shareable(Bytes(count * sizeof(double)));
  DIST_TRY(own);
  auto all = group.attach(*own);
  DIST_TRY(all);
  return HostNumbers(group, *std::move(all));
}

Status HostNumbers::sum(std::span<double> numbers, std::string_view what) {
  const auto own = std::as_bytes(numbers);
  const auto member = static_cast<std::size_t>(group_->member());
  std::copy(own.begin(), own.end(), all_[member].bytes().begin());
  DIST_TRY(group_->meet_again(what));
  std::fill(numbers.begin(), numbers.end(), 0);
  for (const Mapping& of_member : all_) {
    const auto* theirs = reinterpret_cast<const double*>(of_member.bytes().data());
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] += theirs[i];
  }
  return {};
}

}  // namespace dist::allreduce
