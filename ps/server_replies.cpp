// SPDX-License-Identifier: Apache-2.0
// How a server gives parameters: which piece next, and how they get where the worker reads them.
#include <algorithm>
#include <cstring>

#include "ps/server.h"

namespace dist::ps {
namespace {

// What the transport holds of the replies to one worker: enough to keep a link busy, and no more,
// since a piece that is needed earlier cannot overtake it.
constexpr Bytes kRepliesInFlight = 2_MiB;

}  // namespace

// Of a worker whose arena can be reached.
std::span<std::byte> Server::parameters_of(const Peer& peer, Range range) const {
  if (!peer.link) return arena_.parameters(range);
  return host_->parameters(options_.roles.worker_rank(peer.worker), range);
}

void Server::take_first_parameters(const Peer& peer) {
  if (writes_in_place()) return;  // they are there
  const auto from = parameters_of(peer, store_->piece(peer.next_init).range);
  std::memcpy(store_->parameters(peer.next_init).data(), from.data(), from.size());
}

// Nobody trains before all have greeted: one of them may have another layout.
Status Server::answer(Transport& transport, Peer& peer, bool* moved) {
  if (!peer.pull || peer.looked_at == changes_) return {};
  if (!(started_ = started_ || may_start())) return {};
  for (std::size_t i = 0; i < store_->pieces(); ++i) {
    const auto at = by_priority(i);
    if (peer.pull->answered[at]) continue;
    if (!may_answer(peer, at)) continue;
    const auto given = give(transport, peer, at);
    DIST_TRY(given);
    if (!*given) return {};
    *moved = true;
    peer.pull->answered[at] = true;
    peer.pull->since = Clock::now();
    if (--peer.pull->left != 0) continue;
    peer.pull.reset();
    ++peer.pulls_answered;
    publish_report();
    return {};
  }
  peer.looked_at = changes_;
  return {};
}

void Server::publish_report() {
  auto report = store_->report();
  const std::lock_guard lock(mutex_);
  report_ = std::move(report);
}

// What is final waits for everybody's last contribution.
bool Server::may_answer(const Peer& peer, std::size_t at) const {
  if (!store_->may_answer(at, peer.worker, peer.pull->step)) return false;
  return !peer.pull->final || (!store_->policy(at).longest_waiting() &&
                               std::none_of(peers_.begin(), peers_.end(),
                                            [](const Peer& other) { return other.contributes; }));
}

// Puts a reply where the worker reads it. What travels packed to others is unpacked here too: all
// replicas are to have the same bits.
Status Server::place(const Peer& peer, std::size_t at, std::span<const std::byte> payload,
                     bool packed) {
  if (writes_in_place()) return {};  // it is there
  const auto into = parameters_of(peer, store_->piece(at).range);
  if (peer.link) bytes_placed_ += into.size();
  if (packed) return packer_.unpack(Kind::reply, payload, into);
  std::memcpy(into.data(), payload.data(), payload.size());
  return {};
}

// False: no room for another reply to this worker now.
Result<bool> Server::give(Transport& transport, Peer& peer, std::size_t at) {
  if (peer.link && peer.link->payload_in_flight() >= kRepliesInFlight) return false;
  Link::Sent sent;
  std::span<const std::byte> payload = store_->parameters(at);
  if (packs(Kind::reply, at)) {
    sent.packed.resize(
        packer_.payload_bytes(Kind::reply, Elems(store_->piece(at).range.elems())).value);
    packer_.pack(Kind::reply, payload, sent.packed);
    payload = sent.packed;
  }
  if (!peer.link || host_ != nullptr) {
    DIST_TRY(place(peer, at, payload, !sent.packed.empty()));
    payload = {};
  } else if (!sent.packed.empty()) {
    // It has its own memory.
  } else if (options_.rules.applies_while_replying()) {
    auto buffer = staging_.lend(peer.worker);
    DIST_TRY(buffer);
    if (!buffer->has_value()) return false;
    sent.buffer = **std::move(buffer);
    std::memcpy(sent.buffer.bytes().data(), payload.data(), payload.size());
    payload = sent.buffer.bytes().first(payload.size());
  } else {
    sent.in_place = ReadInPlace(&++replies_in_place_[at]);
  }
  const auto given = store_->give(at, peer.worker);
  const Header header{.kind = Kind::reply,
                      .worker = static_cast<std::uint32_t>(peer.worker),
                      .piece = piece_id(at),
                      .step = peer.pull->step,
                      .version = given.version,
                      .payload_bytes = payload.size(),
                      .value = given.staleness};
  if (peer.link) {
    peer.link->send(transport, header, payload, std::move(sent));
  } else {
    peer.outbox.push_back(header);
  }
  return true;
}

Status Server::reap(Transport& transport, Peer& peer, bool* moved) {
  if (!peer.link) return {};
  const auto any = peer.link->reap(transport);
  DIST_TRY(any);
  *moved |= *any;
  return {};
}

}  // namespace dist::ps
