// SPDX-License-Identifier: Apache-2.0
// All that a worker pushes, on its way: for each server the pieces that wait, and the few that are
// in the transport's hands.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "libdist/status.h"
#include "libdist/transport/transport.h"
#include "ps/message.h"
#include "ps/push_order.h"

namespace dist::ps {

class Worker;

/// Of the progress thread alone. Its memory must live until the transport is closed or every
/// operation has ended.
class PushLanes {
 public:
  explicit PushLanes(Worker& worker);

  /// The bucket's gradients are final: its pieces queue up, or are handed over to the server on
  /// this rank at once. They must not change before all of them have left and were applied.
  void add(std::size_t bucket, std::uint64_t step);

  /// Posts as much as may be on its way, forgets what has left.
  Status advance(Transport& transport);

  /// Whether every piece of the bucket has left.
  bool left(std::size_t bucket) const { return waiting_[bucket] == 0; }

  /// Grows with every message posted or gone.
  std::uint64_t moves() const { return moves_; }

  /// A server that something is on its way to, if one is.
  std::optional<int> busy_server() const;

 private:
  struct Sending {
    HeaderBytes header;
    std::uint32_t piece = 0;
    std::vector<std::byte> packed;  // the payload where it is compressed
    Bytes payload;
    Operation header_sent;
    std::optional<Operation> payload_sent;
  };
  struct Lane {
    PushOrder order;
    std::deque<std::unique_ptr<Sending>> sending;  // pointers: the transport reads the headers
    Bytes in_flight;
  };

  void post(Transport& transport, int server, Lane& lane);
  Status reap(Transport& transport, Lane& lane);

  Worker& worker_;
  std::deque<Lane> lanes_;            // by server
  std::vector<std::size_t> waiting_;  // by bucket: pieces that have not left
  std::uint64_t step_ = 0;            // of what is on its way
  std::uint64_t moves_ = 0;
};

}  // namespace dist::ps
