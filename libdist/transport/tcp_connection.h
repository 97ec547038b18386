// SPDX-License-Identifier: Apache-2.0
// One authenticated socket as two streams of messages: cuts them into frames, checks what arrives,
// and never reads more than was asked for, so that TCP itself holds back a sender whose messages
// nobody waits for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>

#include "libdist/transport/file_descriptor.h"
#include "libdist/transport/operation_table.h"
#include "libdist/transport/transport.h"
#include "libdist/wire/frame.h"

namespace dist::tcp {

/// Between whom, and about what.
struct Identity {
  std::uint64_t job = 0;
  std::uint32_t epoch = 0;
  Rank rank = 0;
  Rank peer = 0;
  Channel channel = Channel::collective;
  bool checksums = true;  ///< of the bodies: written, and demanded of the peer
};

/// Belongs to the thread that drives it. Never blocks: whoever drives calls pump() until it moves
/// nothing, and then waits for events() on number(). A failed direction ends the operations in
/// flight in it and all later ones with the same Status.
class Connection {
 public:
  /// Called at most once, when what arrives on the socket is not what a healthy peer can send.
  using OnDistrust = std::function<void(const Status&)>;

  /// The socket does not block. `operations` and `counters` outlive the connection.
  Connection(FileDescriptor socket, const Identity& identity, OperationTable& operations,
             TransferCounters& counters, OnDistrust on_distrust);

  /// As Transport::send and Transport::receive. A send is tried at once.
  Operation send(std::span<const std::byte> bytes, wire::FrameType type = wire::FrameType::data);
  Operation receive(std::span<std::byte> bytes, wire::FrameType type = wire::FrameType::data);

  /// Reads and writes what the kernel has and takes, up to a share of a turn; no further than the
  /// first receive that ends, since somebody waits for it. True if anything moved or ended.
  bool pump();

  bool sending() const { return !sends_.empty(); }
  bool busy() const { return !sends_.empty() || !receives_.empty(); }

  /// What poll() is to watch for while busy(), so that the end of the peer is noticed too.
  int number() const { return socket_.number(); }
  short events() const;

  /// Ends both directions and closes the socket.
  void fail(const Status& why);

  /// Ends the receives in flight with `why`; sends go on.
  void stop_receiving(const Status& why);

  /// Whether the socket can be closed without loss of what was sent. Closing one that holds unread
  /// bytes resets it, and then the kernel drops what has not yet arrived at the other end.
  bool drained();

  const std::string& address() const { return address_; }

 private:
  struct Send {
    Operation operation;
    std::span<const std::byte> bytes;
    wire::FrameType type;
  };
  struct Receive {
    Operation operation;
    std::span<std::byte> bytes;
    wire::FrameType type;
  };
  /// The frame that is being written or read; `moved` counts over header, body and trailer.
  struct Frame {
    std::array<std::byte, wire::kHeaderBytes> header;
    std::array<std::byte, wire::kTrailerBytes> trailer;
    std::uint64_t sequence = 0;      // of its message
    std::uint64_t offset_bytes = 0;  // of its body in the message
    std::size_t body_bytes = 0;
    std::size_t moved_bytes = 0;
    std::uint32_t body_crc = 0;
    bool checked = true;  // the body has a checksum

    std::size_t total_bytes() const {
      return wire::kHeaderBytes + body_bytes + wire::kTrailerBytes;
    }
  };

  void pump_sends();
  bool start_send();
  void begin_send_frame();
  bool write_some();
  void end_send_frame();

  void pump_receives();
  void begin_receive_frame();
  bool read_some();
  bool take_in(std::size_t bytes);
  bool check_header();
  bool end_receive_frame();

  bool peer_has_hung_up();
  void fail_sends(const Status& why);
  void fail_receives(const Status& why);
  void distrust(const std::string& what);
  Status lost(const std::string& how) const;
  std::string who() const;

  FileDescriptor socket_;
  Identity identity_;
  std::string address_;
  OperationTable& operations_;
  TransferCounters& counters_;
  OnDistrust on_distrust_;
  std::uint64_t moved_bytes_ = 0;  // in both directions, all of the frames

  std::deque<Send> sends_;
  Frame out_;
  bool out_started_ = false;  // out_ belongs to sends_.front()
  Status send_failure_;

  std::deque<Receive> receives_;
  Frame in_;
  bool in_started_ = false;  // in_ belongs to receives_.front()
  Status receive_failure_;
};

}  // namespace dist::tcp
