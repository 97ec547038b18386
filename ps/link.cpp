// SPDX-License-Identifier: Apache-2.0
#include "ps/link.h"

#include <fmt/format.h>

#include "libdist/check.h"

namespace dist::ps {

Result<std::optional<Header>> Link::receive_header(Transport& transport) {
  if (!header_) header_ = transport.receive(rank_, Channel::to_server, incoming_);
  if (!transport.finished(*header_)) return std::optional<Header>();
  const Status outcome = transport.take(*header_);
  header_.reset();
  DIST_TRY_BECAUSE(outcome, fmt::format("receive from rank {}", rank_));
  const auto header = decode(incoming_, expected_);
  DIST_TRY(header);
  return std::optional(*header);
}

void Link::receive_payload(Transport& transport, std::span<std::byte> into) {
  DIST_ASSERT(!payload_, "one payload at a time");
  payload_ = transport.receive(rank_, Channel::to_server, into);
}

Result<bool> Link::payload_complete(Transport& transport) {
  DIST_ASSERT(payload_.has_value(), "no payload was asked for");
  if (!transport.finished(*payload_)) return false;
  const Status outcome = transport.take(*payload_);
  payload_.reset();
  DIST_TRY_BECAUSE(outcome, fmt::format("receive from rank {}", rank_));
  return true;
}

void Link::send(Transport& transport, const Header& header, std::span<const std::byte> payload,
                Sent sent) {
  auto out = std::make_unique<Outgoing>(
      Outgoing{encode(header), {}, std::move(sent), Bytes(payload.size())});
  payload_in_flight_ += out->payload;
  out->operations.push_back(transport.send(rank_, Channel::to_worker, out->header));
  if (!payload.empty()) {
    out->operations.push_back(transport.send(rank_, Channel::to_worker, payload));
  }
  outgoing_.push_back(std::move(out));
}

Result<bool> Link::reap(Transport& transport) {
  bool any = false;
  while (!outgoing_.empty()) {
    auto& operations = outgoing_.front()->operations;
    while (!operations.empty() && transport.finished(operations.front())) {
      const Status outcome = transport.take(operations.front());
      operations.erase(operations.begin());
      DIST_TRY_BECAUSE(outcome, fmt::format("send to rank {}", rank_));
      any = true;
    }
    if (!operations.empty()) break;
    payload_in_flight_ -= outgoing_.front()->payload;
    outgoing_.pop_front();
  }
  return any;
}

void Link::abandon(Transport& transport) {
  for (auto* receive : {&header_, &payload_}) {
    if (*receive) static_cast<void>(transport.take(**receive));
    receive->reset();
  }
  for (const auto& out : outgoing_) {
    for (const Operation operation : out->operations) static_cast<void>(transport.take(operation));
  }
  outgoing_.clear();
}

}  // namespace dist::ps
