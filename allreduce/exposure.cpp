// SPDX-License-Identifier: Apache-2.0
#include "allreduce/exposure.h"

#include <algorithm>
#include <limits>

namespace dist::allreduce {

Duration least_exposed(std::span<const Transfer> transfers, TimePoint backward_end,
                       const LinkModel& link) {
  TimePoint free;
  for (const Transfer& transfer : transfers) {
    free = std::max(free, transfer.ready) +
           Duration(static_cast<std::int64_t>(link.time_ns(transfer.bytes)));
  }
  return std::max(free - backward_end, Duration(0));
}

void LinkFit::note(std::size_t index, Bytes bytes, Duration took) {
  if (index >= shortest_.size()) shortest_.resize(index + 1);
  const auto took_ns = std::max(static_cast<double>(took.count()), 1.0);
  Shortest& shortest = shortest_[index];
  if (shortest.took_ns == 0 || took_ns < shortest.took_ns) {
    shortest = {static_cast<double>(bytes.value), took_ns};
  }
}

LinkModel LinkFit::model() const {
  double count = 0, bytes = 0, times = 0, squares = 0, products = 0;
  double least_rate = std::numeric_limits<double>::infinity();
  for (const Shortest& s : shortest_) {
    if (s.took_ns == 0) continue;
    count += 1;
    bytes += s.bytes;
    times += s.took_ns;
    squares += s.bytes * s.bytes;
    products += s.bytes * s.took_ns;
    least_rate = std::min(least_rate, s.took_ns / std::max(s.bytes, 1.0));
  }
  if (count == 0) return {};
  const double spread = count * squares - bytes * bytes;
  const double slope = spread > 0 ? (count * products - bytes * times) / spread : least_rate;
  LinkModel link{std::numeric_limits<double>::infinity(), std::max(slope, 0.0)};
  for (const Shortest& s : shortest_) {
    if (s.took_ns == 0) continue;
    link.alpha_ns = std::min(link.alpha_ns, s.took_ns - link.beta_ns_per_byte * s.bytes);
  }
  // Steeper than from the origin to some bucket: then the line through the origin is the lower one.
  if (link.alpha_ns < 0) return {0, least_rate};
  return link;
}

}  // namespace dist::allreduce
