// SPDX-License-Identifier: Apache-2.0
#include "ps/arrivals.h"

#include <algorithm>

namespace dist::ps {

void Arrivals::begin_step() {
  const std::lock_guard lock(mutex_);
  here_.assign(here_.size(), false);
  staleness_ = 0;
}

void Arrivals::arrived(std::uint32_t piece, std::uint64_t staleness) {
  {
    const std::lock_guard lock(mutex_);
    here_[piece] = true;
    staleness_ = std::max(staleness_, staleness);
  }
  signal_.notify_one();
}

std::uint64_t Arrivals::staleness() const {
  const std::lock_guard lock(mutex_);
  return staleness_;
}

bool Arrivals::wait_until(std::size_t first, std::size_t last, TimePoint deadline) const {
  std::unique_lock lock(mutex_);
  return signal_.wait_until(lock, deadline, [&] {
    const auto at = [&](std::size_t i) { return here_.begin() + static_cast<std::ptrdiff_t>(i); };
    return std::all_of(at(first), at(last), [](bool here) { return here; });
  });
}

}  // namespace dist::ps
