// SPDX-License-Identifier: Apache-2.0
#include "ps/norm_sum.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "libdist/check.h"

namespace dist::ps {

NormSum::NormSum(const Roles& roles, const ShardMap& map, int server) {
  for (int other = 0; other < map.servers(); ++other) {
    if (other == server) own_place_ = others_.size();
    if (other == server || map.of_server[static_cast<std::size_t>(other)].empty()) continue;
    others_.push_back({roles.server_rank(other), {}, {}, {}});
  }
}

void NormSum::begin(Transport& transport, std::uint64_t version,
                    const std::vector<double>& squares) {
  DIST_ASSERT(!under_way(), "one sum at a time");
  own_ = {version};
  for (const double value : squares) own_.push_back(std::bit_cast<std::uint64_t>(value));
  since_ = Clock::now();
  for (Other& other : others_) {
    other.words.assign(own_.size(), 0);
    other.sending = transport.send(other.rank, Channel::control, std::as_bytes(std::span(own_)));
    other.receiving = transport.receive(other.rank, Channel::control,
                                        std::as_writable_bytes(std::span(other.words)));
  }
}

Result<std::optional<std::vector<double>>> NormSum::advance(Transport& transport,
                                                            std::optional<Rank>* lost) {
  for (Other& other : others_) {
    for (auto* operation : {&other.sending, &other.receiving}) {
      if (!*operation || !transport.finished(**operation)) continue;
      const Status outcome = transport.take(**operation);
      operation->reset();
      if (outcome.code() == ErrorCode::peer_lost) *lost = other.rank;
      DIST_TRY_BECAUSE(outcome, fmt::format("norms of another server, rank {}", other.rank));
      if (operation == &other.sending || other.words.front() == own_.front()) continue;
      return Status::protocol(fmt::format("norms of another server, rank {}: of version {}, not {}",
                                          other.rank, other.words.front(), own_.front()));
    }
  }
  if (missing()) return std::optional<std::vector<double>>();
  std::vector<double> sums(own_.size() - 1, 0);
  const auto add = [&](const std::vector<std::uint64_t>& words) {
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += std::bit_cast<double>(words[i + 1]);
  };
  for (std::size_t place = 0; place < others_.size(); ++place) {
    if (place == own_place_) add(own_);
    add(others_[place].words);
  }
  if (own_place_ == others_.size()) add(own_);
  own_.clear();
  return std::optional(std::move(sums));
}

std::optional<Rank> NormSum::missing() const {
  const auto waiting = std::find_if(others_.begin(), others_.end(), [](const Other& other) {
    return other.receiving.has_value() || other.sending.has_value();
  });
  return waiting == others_.end() ? std::nullopt : std::optional(waiting->rank);
}

}  // namespace dist::ps
