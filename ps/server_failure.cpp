// SPDX-License-Identifier: Apache-2.0
// How a server fails: who keeps others waiting for too long, and what it says before it goes.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "ps/server.h"

namespace dist::ps {
namespace {

constexpr Duration kCheckInterval = std::chrono::milliseconds(50);
// Another server that waits for a worker knows whom to blame.
constexpr Duration kOtherSpeaksFirst = std::chrono::seconds(1);
// After a failure: long enough for the other ranks to see by themselves who is gone, before they
// see this rank go; and the most it waits for its last words to leave.
constexpr Duration kLinger = std::chrono::milliseconds(250);
constexpr Duration kLongestLinger = std::chrono::seconds(1);

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

std::string Server::name_workers(const std::vector<int>& workers) const {
  std::vector<std::string> names;
  names.reserve(workers.size());
  for (const int worker : workers) {
    names.push_back(fmt::format("{} (rank {})", worker, options_.roles.worker_rank(worker)));
  }
  return fmt::format("worker{} {}", workers.size() == 1 ? "" : "s", fmt::join(names, ", "));
}

// Whoever waits for others, with a contribution or with a pull, does so for at most the timeout.
Status Server::check_overdue(Transport& transport) {
  const auto now = Clock::now();
  if (now < next_check_) return {};
  next_check_ = now + kCheckInterval;
  if (norms_.under_way()) return check_norms_overdue();
  for (std::size_t at = 0; at < store_->pieces(); ++at) {
    const auto since = store_->waiting_since(at);
    if (!since || now - *since < options_.timeout) continue;
    const int worker = *store_->policy(at).longest_waiting();
    DIST_TRY(overdue(transport, store_->policy(at).holding_back(worker), now - *since,
                     fmt::format("push of bucket {}, step {}", store_->piece(at).bucket,
                                 store_->policy(at).version())));
  }
  for (const Peer& peer : peers_) {
    // Who has no more data waits as long as others train.
    if (!peer.pull || peer.pull->final || now - peer.pull->since < options_.timeout) continue;
    DIST_TRY(overdue(transport, held_up_by(peer), now - peer.pull->since,
                     fmt::format("pull by worker {}, step {}", peer.worker, peer.pull->step)));
  }
  return {};
}

// Then no worker holds anybody back.
Status Server::check_norms_overdue() const {
  const auto waited = Clock::now() - norms_.since();
  if (waited < options_.timeout + kOtherSpeaksFirst) return {};
  return Status::timed_out(
      fmt::format("norms of step {} -> another server (rank {}) missing for {:.1f} s",
                  store_->policy(0).version() - 1, *norms_.missing(), seconds(waited)));
}

// Why a pull is not answered.
std::vector<int> Server::held_up_by(const Peer& peer) const {
  std::vector<int> missing;
  for (const Peer& other : peers_) {
    if (!started_ && !other.greeted && !other.lost) missing.push_back(other.worker);
  }
  if (!missing.empty()) return missing;
  if (!store_->ready()) return {0};
  std::size_t at = 0;
  while (peer.pull->answered[at]) ++at;
  missing = store_->policy(at).holding_back(peer.worker);
  for (const Peer& other : peers_) {
    if (missing.empty() && writes_in_place() && still_reads(other)) missing = {other.worker};
  }
  // If nobody is, it does not take what it asked for.
  return missing.empty() ? std::vector<int>{peer.worker} : missing;
}

Status Server::overdue(Transport& transport, const std::vector<int>& missing, Duration waited,
                       const std::string& what) {
  if (missing.empty()) return {};
  auto why = Status::timed_out(
      fmt::format("{} -> {} missing for {:.1f} s", what, name_workers(missing), seconds(waited)));
  for (const int worker : missing) {
    Peer& peer = peers_[static_cast<std::size_t>(worker)];
    culprit_ = static_cast<std::uint32_t>(worker);
    if (!peer.present || !may_lose(why)) return why;
    DIST_TRY(lose(transport, peer, why));
  }
  culprit_ = kNobody;
  return {};
}

std::string Server::waits_for() const {
  std::vector<int> missing;
  for (std::size_t at = 0; at < store_->pieces() && missing.empty(); ++at) {
    const auto waiting = store_->policy(at).longest_waiting();
    if (waiting) missing = store_->policy(at).holding_back(*waiting);
  }
  if (missing.empty()) {
    for (const Peer& peer : peers_) {
      if (peer.present) missing.push_back(peer.worker);
    }
  }
  return fmt::format("{}: {}: waits for {}", options_.rules.strategy_name, name(),
                     name_workers(missing));
}

// Workers that only talk to servers learn here whose fault it is.
void Server::say_last_words(Transport& transport) {
  failed_at_ = Clock::now();
  for (Peer& peer : peers_) {
    const auto worker = static_cast<std::uint32_t>(peer.worker);
    if (!peer.link || peer.stage == Stage::ended || worker == culprit_) continue;
    peer.link->send(transport,
                    {.kind = Kind::failed,
                     .code = failure_.code(),
                     .worker = culprit_,
                     .step = peer.step,
                     .value = lost_server_ ? static_cast<std::uint64_t>(*lost_server_) + 1 : 0});
  }
}

Result<Advance> Server::wind_down(Transport& transport) {
  if (failed_at_ == TimePoint()) say_last_words(transport);
  bool quiet = true;
  for (Peer& peer : peers_) {
    if (!peer.link || static_cast<std::uint32_t>(peer.worker) == culprit_) continue;
    const auto reaped = peer.link->reap(transport);
    if (!reaped.ok()) continue;  // one failure is told, the first
    quiet &= peer.link->sends_in_flight() == 0;
  }
  const auto since = Clock::now() - failed_at_;
  if (since > kLongestLinger || (quiet && since > kLinger)) return failure_;
  return Advance::idle;
}

}  // namespace dist::ps
