// SPDX-License-Identifier: Apache-2.0
// Workers that come, go and come back: what a server does about them.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ps/server.h"

namespace dist::ps {

std::unique_ptr<Link> Server::make_link(int worker) const {
  return std::make_unique<Link>(
      options_.roles.worker_rank(worker),
      Expectation{Direction::to_server, static_cast<std::uint32_t>(options_.roles.workers),
                  static_cast<std::uint32_t>(worker), options_.map.get(), options_.server,
                  arena_.dtype(), &packer_});
}

// The transport has ended what was in flight with an earlier life before it tells of a later one.
void Server::notice_arrival(Transport& transport, Peer& peer, bool* moved) {
  const auto incarnation = transport.incarnation(options_.roles.worker_rank(peer.worker));
  const bool first = !peer.present && !peer.lost && peer.stage != Stage::ended;
  if (!incarnation || (!first && *incarnation <= peer.incarnation)) return;
  if (peer.link) {
    static_cast<void>(lose(transport, peer, Status::peer_lost("a later life of it has come")));
  }
  peer = Peer{};
  peer.worker = static_cast<int>(&peer - peers_.data());
  peer.pushed.assign(store_->pieces(), false);
  peer.present = true;
  peer.contributes = false;
  peer.incarnation = *incarnation;
  peer.link = make_link(peer.worker);
  *moved = true;
}

// Where nobody has trained yet everybody starts with step 0. Who comes later is waited for from
// this moment on, so that no step is completed that it could still be part of.
void Server::greet(Transport& transport, Peer& peer) {
  peer.greeted = true;
  if (options_.membership.elastic) {
    peer.contributes = peer.joining = true;
    peer.step = peer.pulls_answered = store_->joining_step();
    store_->join(peer.worker, peer.step);
    if (options_.log != nullptr) {
      options_.log->info(
          fmt::format("{}: {}: worker {} (rank {}), incarnation {}, comes at step {}",
                      options_.rules.strategy_name, name(), peer.worker,
                      options_.roles.worker_rank(peer.worker), peer.incarnation, peer.step));
    }
  }
  peer.link->send(transport, {.kind = Kind::welcome,
                              .worker = static_cast<std::uint32_t>(peer.worker),
                              .step = peer.step,
                              .version = store_->ready() ? 1 + resumed_at_ : 0,
                              .value = options_.layout_hash});
}

bool Server::may_lose(const Status& why) const {
  return options_.membership.drops && why.code() != ErrorCode::resource;
}

// What it pushed whole and what was applied stays; what still waited is forgotten. Nothing of this
// life can arrive any more.
Status Server::lose(Transport& transport, Peer& peer, const Status& why) {
  const Rank rank = options_.roles.worker_rank(peer.worker);
  // Unless a later life has its place already.
  if (transport.incarnation(rank) == peer.incarnation) {
    transport.disconnect(rank, Status::peer_lost("this rank goes on without it"));
  }
  peer.link->abandon(transport);
  peer.link.reset();
  peer.buffer = {};
  peer.packed.clear();
  peer.pull.reset();
  if (peer.stage == Stage::ended) return {};  // it had said goodbye
  peer.present = false;
  peer.lost = true;
  peer.contributes = false;
  store_->leave(peer.worker);
  enqueue_all_ready();
  // Those it held up have waited for nobody else.
  for (Peer& other : peers_) {
    if (other.pull) other.pull->since = Clock::now();
  }
  if (options_.log != nullptr) {
    options_.log->warning(fmt::format(
        "{}: {}: goes on with {} workers, without worker {} (rank {}), incarnation {}, since step "
        "{}: {}",
        options_.rules.strategy_name, name(), count(&Peer::present), peer.worker,
        options_.roles.worker_rank(peer.worker), peer.incarnation, peer.step, why.message()));
  }
  return {};
}

int Server::count(bool Peer::*what) const {
  return static_cast<int>(
      std::count_if(peers_.begin(), peers_.end(), [&](const Peer& peer) { return peer.*what; }));
}

// Nobody trains before all have greeted: one of them may have another layout.
bool Server::may_start() const {
  if (!store_->ready()) return false;
  if (!options_.membership.elastic) {
    return std::all_of(peers_.begin(), peers_.end(),
                       [](const Peer& peer) { return peer.greeted || peer.lost; });
  }
  const int wanted = options_.membership.min_workers;
  const auto here = std::count_if(peers_.begin(), peers_.end(),
                                  [](const Peer& peer) { return peer.greeted && !peer.lost; });
  return here >= (wanted == 0 ? options_.roles.workers : wanted);
}

// A server without workers waits for a while, unless training has ended, or nobody can come.
Status Server::check_company() {
  if (count(&Peer::present) != 0 || finished()) {
    alone_since_ = {};
    return {};
  }
  const auto now = Clock::now();
  if (alone_since_ == TimePoint()) alone_since_ = now;
  const int lost = count(&Peer::lost);
  if (!options_.membership.elastic && lost != 0) {
    return Status::peer_lost(fmt::format("all {} workers were lost", lost));
  }
  if (!options_.membership.elastic || now - alone_since_ < options_.membership.patience) return {};
  return Status::peer_lost(fmt::format("no worker for {:.1f} s, {} of {} were lost",
                                       std::chrono::duration<double>(now - alone_since_).count(),
                                       lost, options_.roles.workers));
}

Status Server::watch_servers(Transport& transport) {
  if (others_.empty()) {
    for (int server = 0; server < options_.roles.servers; ++server) {
      OtherServer other{options_.roles.server_rank(server), std::make_unique<std::byte>(), {}};
      if (server != options_.server) {
        other.hearing =
            transport.receive(other.rank, Channel::control, std::span(other.word.get(), 1));
      }
      others_.push_back(std::move(other));
    }
  }
  for (OtherServer& other : others_) {
    if (!other.hearing || !transport.finished(*other.hearing)) continue;
    const Status outcome = transport.take(*other.hearing);
    other.hearing.reset();
    if (!outcome.ok()) lost_server_ = other.rank;
    DIST_TRY_BECAUSE(outcome, fmt::format("another server, rank {}", other.rank));
  }
  return {};
}

// All servers end together: what they own belongs together.
Result<Advance> Server::take_leave(Transport& transport) {
  static constexpr std::byte kGoodbye{};
  if (!std::exchange(leaving_, true)) {
    for (const OtherServer& other : others_) {
      if (other.rank == options_.roles.server_rank(options_.server)) continue;
      transport.send(other.rank, Channel::control, std::span(&kGoodbye, 1));
    }
  }
  const bool alone = std::none_of(others_.begin(), others_.end(), [](const OtherServer& other) {
    return other.hearing.has_value();
  });
  return alone ? Advance::finished : Advance::idle;
}

}  // namespace dist::ps
