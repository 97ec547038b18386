// SPDX-License-Identifier: Apache-2.0
// One direction of one channel between two ranks: the operations queued on it, and how a message
// goes through the ring. A message is a header of one cache line that holds its size, then its
// bytes; large ones stream through while the other end reads.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>

#include "libdist/status.h"
#include "libdist/transport/byte_ring.h"
#include "libdist/transport/operation_table.h"
#include "libdist/transport/transport.h"

namespace dist {

/// In the ring, in front of the bytes of a message. A whole line keeps gradients aligned.
struct ShmMessageHeader {
  std::uint64_t message_bytes = 0;
  std::array<std::uint8_t, 56> zero{};
};
static_assert(sizeof(ShmMessageHeader) == 64);

/// What moving along one stream needs from its owner.
struct ShmStreamContext {
  OperationTable& operations;
  TransferCounters& counters;
};

/// Sends to one peer on one channel, in order.
class ShmOutbox {
 public:
  ShmOutbox(Rank peer, Channel channel, ByteRingWriter ring)
      : peer_(peer), channel_(channel), ring_(ring) {}

  Rank peer() const { return peer_; }
  bool empty() const { return queue_.empty(); }
  void add(Operation operation, std::span<const std::byte> bytes);

  /// Puts what there is room for into the ring, at most some hundred KiB a call, so that the other
  /// streams get their turn. True if anything moved; the peer's doorbell must then be rung.
  bool move(ShmStreamContext context);

  /// Ends every queued operation; `why` is told with what the operation was.
  void fail(OperationTable& operations, const Status& why);

 private:
  struct Entry {
    Operation operation;
    std::span<const std::byte> bytes;
    ShmMessageHeader header;
    std::size_t moved = 0;  // header included
  };

  std::size_t put_next(Entry& entry);

  Rank peer_;
  Channel channel_;
  ByteRingWriter ring_;
  std::deque<Entry> queue_;
};

/// Receives from one peer on one channel, in order.
class ShmInbox {
 public:
  ShmInbox(Rank peer, Channel channel, ByteRingReader ring)
      : peer_(peer), channel_(channel), ring_(ring) {}

  Rank peer() const { return peer_; }
  bool empty() const { return queue_.empty(); }
  void add(Operation operation, std::span<std::byte> bytes);

  /// Takes what has come out of the ring, into the memory of the queued operations. True if
  /// anything moved or ended. A message of the wrong size ends everything queued here, now and
  /// later.
  bool move(ShmStreamContext context);

  void fail(OperationTable& operations, const Status& why);

 private:
  struct Entry {
    Operation operation;
    std::span<std::byte> bytes;
    ShmMessageHeader header;
    std::size_t moved = 0;  // header included
  };

  std::size_t get_next(Entry& entry);
  Status check(const Entry& entry) const;

  Rank peer_;
  Channel channel_;
  ByteRingReader ring_;
  Status broken_;
  std::deque<Entry> queue_;
};

}  // namespace dist
