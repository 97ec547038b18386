// SPDX-License-Identifier: Apache-2.0
// A server's end of its connection with one worker on another rank: one message is received at a
// time, several replies are on their way.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "libdist/status.h"
#include "libdist/transport/transport.h"
#include "ps/message.h"
#include "ps/staging.h"

namespace dist::ps {

/// Counts a reply among those that are sent from where a piece's parameters lie, as long as it is
/// kept: `ReadInPlace(&++count)`.
struct Uncount {
  void operator()(std::size_t* count) const { --*count; }
};
using ReadInPlace = std::unique_ptr<std::size_t, Uncount>;

/// Of the progress thread alone. Its memory must live until the transport is closed or every
/// operation has ended.
class Link {
 public:
  Link(Rank rank, Expectation expected) : rank_(rank), expected_(expected) {}

  /// From now on payloads are not sent: see HostMemory.
  void expect_in_place() { expected_.in_place = true; }

  /// Keeps a header receive posted; the header once it has come.
  Result<std::optional<Header>> receive_header(Transport& transport);

  /// Posts the receive of the payload that follows the last header.
  void receive_payload(Transport& transport, std::span<std::byte> into);

  /// Whether that payload has come.
  Result<bool> payload_complete(Transport& transport);

  /// What a message holds until it has left.
  struct Sent {
    ReadInPlace in_place;           ///< the parameters where they lie
    Staging::Buffer buffer;         ///< or a copy
    std::vector<std::byte> packed;  ///< or a compressed one
  };
  void send(Transport& transport, const Header& header, std::span<const std::byte> payload = {},
            Sent sent = {});

  /// Forgets messages that have left; whether there were any.
  Result<bool> reap(Transport& transport);

  /// Forgets everything, after the transport has ended it all.
  void abandon(Transport& transport);

  std::size_t sends_in_flight() const { return outgoing_.size(); }
  Bytes payload_in_flight() const { return payload_in_flight_; }

 private:
  struct Outgoing {
    HeaderBytes header;
    std::vector<Operation> operations;
    Sent sent;
    Bytes payload;
  };

  const Rank rank_;
  Expectation expected_;
  HeaderBytes incoming_{};
  std::optional<Operation> header_;
  std::optional<Operation> payload_;
  std::deque<std::unique_ptr<Outgoing>> outgoing_;  // pointers: the transport reads the headers
  Bytes payload_in_flight_;
};

}  // namespace dist::ps
