// SPDX-License-Identifier: Apache-2.0
#include "ps/push_lanes.h"

#include <algorithm>

#include "ps/worker.h"

namespace dist::ps {
namespace {

// What the transport holds of a worker's pushes to a server: enough to keep a link busy, and no
// more, since a piece that is needed earlier cannot overtake it.
constexpr Bytes kInFlight = 2_MiB;

}  // namespace

PushLanes::PushLanes(Worker& worker)
    : worker_(worker), waiting_(worker.options().map->buckets.size(), 0) {
  for (int server = 0; server < worker.options().map->servers(); ++server) {
    lanes_.push_back({PushOrder(worker.may_overtake(server)), {}, {}});
  }
}

void PushLanes::add(std::size_t bucket, std::uint64_t step) {
  const auto& pieces = worker_.options().map->pieces;
  step_ = step;
  const auto first = std::partition_point(
      pieces.begin(), pieces.end(), [&](const Piece& piece) { return piece.bucket < bucket; });
  for (auto piece = first; piece != pieces.end() && piece->bucket == bucket; ++piece) {
    const auto id = static_cast<std::uint32_t>(piece - pieces.begin());
    if (worker_.ports()[static_cast<std::size_t>(piece->server)] == nullptr) {
      worker_.local()->deliver(worker_.push_header(id, step));
      ++moves_;
    } else {
      lanes_[static_cast<std::size_t>(piece->server)].order.add(id);
      ++waiting_[bucket];
    }
  }
}

// Workers begin at different servers, lest all of them crowd the first one.
Status PushLanes::advance(Transport& transport) {
  const auto servers = static_cast<int>(lanes_.size());
  for (int i = 1; i <= servers; ++i) {
    const int server = (worker_.options().worker + i) % servers;
    Lane& lane = lanes_[static_cast<std::size_t>(server)];
    if (const Status gone = reap(transport, lane); !gone.ok()) return worker_.from(server, gone);
    while (!lane.order.empty() && lane.in_flight < kInFlight) post(transport, server, lane);
  }
  return {};
}

void PushLanes::post(Transport& transport, int server, Lane& lane) {
  const Rank rank = worker_.ports()[static_cast<std::size_t>(server)]->rank();
  auto sending = std::make_unique<Sending>();
  sending->piece = lane.order.take();
  Header header = worker_.push_header(sending->piece, step_);
  const auto& piece = worker_.options().map->pieces[sending->piece];
  std::span<const std::byte> payload = worker_.arena().gradients(piece.range);
  if (worker_.packer().packs(Kind::push, Elems(piece.range.elems()))) {
    payload = sending->packed = worker_.pack(sending->piece);
    header.payload_bytes = payload.size();
  }
  sending->header = encode(header);
  sending->payload = Bytes(header.payload_bytes);
  sending->header_sent = transport.send(rank, Channel::to_server, sending->header);
  if (header.payload_bytes != 0) {
    sending->payload_sent = transport.send(rank, Channel::to_server, payload);
  }
  lane.in_flight += sending->payload;
  lane.sending.push_back(std::move(sending));
  ++moves_;
}

Status PushLanes::reap(Transport& transport, Lane& lane) {
  while (!lane.sending.empty()) {
    Sending& oldest = *lane.sending.front();
    const Operation last = oldest.payload_sent.value_or(oldest.header_sent);
    if (!transport.finished(oldest.header_sent) || !transport.finished(last)) return {};
    const Status header = transport.take(oldest.header_sent);
    const Status payload = oldest.payload_sent ? transport.take(last) : Status();
    const auto bucket = worker_.options().map->pieces[oldest.piece].bucket;
    lane.in_flight -= oldest.payload;
    lane.sending.pop_front();
    ++moves_;
    DIST_TRY(header);
    DIST_TRY(payload);
    --waiting_[bucket];
  }
  return {};
}

std::optional<int> PushLanes::busy_server() const {
  const auto busy = std::find_if(lanes_.begin(), lanes_.end(), [](const Lane& lane) {
    return !lane.sending.empty() || !lane.order.empty();
  });
  if (busy == lanes_.end()) return std::nullopt;
  return static_cast<int>(busy - lanes_.begin());
}

}  // namespace dist::ps
