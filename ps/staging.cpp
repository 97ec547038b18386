// SPDX-License-Identifier: Apache-2.0
#include "ps/staging.h"

#include <algorithm>

namespace dist::ps {

Staging::Buffer::~Buffer() {
  if (owner_ != nullptr) owner_->give_back(worker_, memory_);
}

std::size_t buffers_in(Bytes quota, Bytes buffer) {
  if (buffer.value == 0) return 1;
  return std::max<std::size_t>((quota.value + buffer.value - 1) / buffer.value, 1);
}

Staging::Staging(StagingOptions options)
    : options_(options),
      most_lent_(buffers_in(options.quota_per_worker, options.buffer)),
      lent_(static_cast<std::size_t>(options.workers), 0) {}

Result<std::optional<Staging::Buffer>> Staging::lend(int worker) {
  const auto account = static_cast<std::size_t>(worker);
  if (lent_.at(account) == most_lent_) return std::optional<Buffer>();
  const bool shared = options_.alias_window.value != 0 && !made_.empty();
  if (free_.empty() && !shared) {
    auto memory = Mapping::map(options_.buffer, options_.alias_window);
    DIST_TRY_BECAUSE(memory, "staging of the parameter server");
    made_.push_back(*std::move(memory));
    free_.push_back(made_.back().bytes());
  }
  Buffer buffer;
  buffer.owner_ = this;
  buffer.worker_ = account;
  buffer.memory_ = shared ? made_.front().bytes() : free_.back();
  if (!shared) free_.pop_back();
  ++lent_[account];
  return std::optional<Buffer>(std::move(buffer));
}

void Staging::give_back(std::size_t worker, std::span<std::byte> memory) {
  --lent_[worker];
  if (options_.alias_window.value == 0) free_.push_back(memory);
}

}  // namespace dist::ps
