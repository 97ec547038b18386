// SPDX-License-Identifier: Apache-2.0
// One connection over real sockets: cutting, checking, back-pressure, ends, signals.
#include "libdist/transport/tcp_connection.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>

#include <functional>
#include <memory>
#include <numeric>
#include <optional>

#include "libdist/transport/tcp_socket.h"
#include "libdist/wire/crc32c.h"
#include "tests/libdist/transport/tcp_support.h"
#include "tests/support/catch.h"

using namespace dist;
using namespace dist::test;

namespace {

constexpr std::uint64_t kJob = 77;
constexpr auto kLimit = std::chrono::seconds(30);

std::vector<std::byte> pattern(std::size_t count, unsigned seed = 1) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::byte>((i * 131 + i / 251 + seed) & 0xff);
  }
  return bytes;
}

/// Rank 1's end of a connection whose other end is a plain socket in the hands of the test.
class OneEnd {
 public:
  explicit OneEnd(int buffer_bytes = 0, bool checksums = true) {
    const PlainListener listener(buffer_bytes);
    auto mine = plain_connect(listener.port());
    other = listener.accept();
    REQUIRE(mine.valid());
    REQUIRE(other.valid());
    adopt(std::move(mine), buffer_bytes, checksums);
  }

  Status wait(Operation operation) {
    const auto deadline = Clock::now() + kLimit;
    while (!operations.finished(operation)) {
      if (Clock::now() > deadline) return Status::timed_out("test");
      turn(50);
    }
    return operations.take(operation);
  }

  /// Drives the connection; where nothing moves, waits for it as a transport does.
  void turn(int milliseconds) {
    if (connection->pump() || !connection->busy()) return;
    pollfd watched{connection->number(), connection->events(), 0};
    ::poll(&watched, 1, milliseconds);
  }

  OperationTable operations;
  TransferCounters counters;
  Status distrusted;
  std::unique_ptr<tcp::Connection> connection;
  FileDescriptor other;

 private:
  void adopt(FileDescriptor socket, int buffer_bytes, bool checksums) {
    if (buffer_bytes > 0) {
      ::setsockopt(socket.number(), SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    }
    tcp::asio::io_context context;
    tcp::Socket adopted(context);
    tcp::ErrorCodeOf code;
    adopted.assign(tcp::asio::ip::tcp::v4(), socket.release(), code);
    connection = std::make_unique<tcp::Connection>(
        tcp::detach(std::move(adopted), std::chrono::seconds(30)),
        tcp::Identity{kJob, 0, 1, 0, Channel::to_server, checksums}, operations, counters,
        [this](const Status& why) { distrusted = why; });
  }
};

/// The frames of a message as rank 0 would send it.
std::vector<std::byte> frames_of(std::span<const std::byte> message, std::uint64_t sequence = 0) {
  std::vector<std::byte> bytes;
  std::uint64_t offset = 0;
  do {
    const auto body = message.subspan(offset, wire::body_bytes_at(message.size(), offset));
    std::array<std::byte, wire::kHeaderBytes> header;
    std::array<std::byte, wire::kTrailerBytes> trailer;
    const bool last = offset + body.size() == message.size();
    wire::encode_header({.channel = static_cast<std::uint8_t>(Channel::to_server),
                         .flags = last ? wire::kLastFrame : std::uint8_t{0},
                         .job = kJob,
                         .source = 0,
                         .sequence = sequence,
                         .body_bytes = static_cast<std::uint32_t>(body.size()),
                         .message_bytes = message.size(),
                         .offset_bytes = offset},
                        header);
    wire::encode_trailer(wire::crc32c(body), trailer);
    bytes.insert(bytes.end(), header.begin(), header.end());
    bytes.insert(bytes.end(), body.begin(), body.end());
    bytes.insert(bytes.end(), trailer.begin(), trailer.end());
    offset += body.size();
  } while (offset < message.size());
  return bytes;
}

std::vector<std::byte> plain_receive(const FileDescriptor& socket, std::size_t count) {
  std::vector<std::byte> bytes(count);
  const auto got = ::recv(socket.number(), bytes.data(), count, MSG_WAITALL);
  bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return bytes;
}

constexpr std::size_t kCut = wire::kFrameBodyBytes;
const std::vector<std::size_t> kSizes = {0,    1,        3,        100,      kCut - 1,
                                         kCut, kCut + 1, 2 * kCut, 3 * kCut, 3 * kCut + 7};

}  // namespace

TEST_CASE("messages are cut into the frames of FORMAT.md") {
  for (const std::size_t size : kSizes) {
    OneEnd end;
    const auto message = pattern(size);
    // Rank 1's frames differ from rank 0's in the source alone.
    auto expected = frames_of(message);
    for (std::size_t at = 0; at < expected.size();
         at += wire::kHeaderBytes + kCut + wire::kTrailerBytes) {
      expected[at + 20] = std::byte{1};
      const auto crc = wire::crc32c(std::span(expected).subspan(at, 60));
      for (std::size_t i = 0; i < 4; ++i) {
        expected[at + 60 + i] = static_cast<std::byte>((crc >> (8 * i)) & 0xff);
      }
    }
    auto reader =
        std::async(std::launch::async, [&] { return plain_receive(end.other, expected.size()); });
    REQUIRE_OK(end.wait(end.connection->send(message)));
    CHECK(reader.get() == expected);
    CHECK(end.counters.sent.value == size);
  }
}

TEST_CASE("connections have no delay, and none within this host is paced") {
  OneEnd end;
  int no_delay = 0;
  socklen_t length = sizeof no_delay;
  ::getsockopt(end.connection->number(), IPPROTO_TCP, TCP_NODELAY, &no_delay, &length);
  CHECK(no_delay != 0);
  std::array<char, 16> name{};
  length = name.size() - 1;
  ::getsockopt(end.connection->number(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &length);
  CHECK(std::string(name.data()) == "reno");
}

TEST_CASE("bytes that arrive one by one make the same messages") {
  OneEnd end;
  std::vector<std::byte> stream;
  std::uint64_t sequence = 0;
  for (const std::size_t size : {0, 1, 300, 0, 77}) {
    const auto frames = frames_of(pattern(size, static_cast<unsigned>(size)), sequence++);
    stream.insert(stream.end(), frames.begin(), frames.end());
  }
  auto writer = std::async(std::launch::async, [&] {
    for (const std::byte byte : stream) plain_send(end.other, std::span(&byte, 1));
  });
  for (const std::size_t size : {0, 1, 300, 0, 77}) {
    std::vector<std::byte> message(size);
    REQUIRE_OK(end.wait(end.connection->receive(message)));
    CHECK(message == pattern(size, static_cast<unsigned>(size)));
  }
  writer.get();
  CHECK(end.counters.messages_received == 5);
  CHECK(end.counters.received.value == 378);
}

TEST_CASE("tiny socket buffers: partial writes and reads of every size") {
  for (const std::size_t size : kSizes) {
    OneEnd end(2048);
    const auto message = pattern(size);
    const auto frames = frames_of(message);
    auto peer = std::async(std::launch::async, [&] {
      plain_send(end.other, frames);
      return plain_receive(end.other, frames.size());
    });
    std::vector<std::byte> in(size);
    const auto receiving = end.connection->receive(in);
    const auto sending = end.connection->send(message);
    REQUIRE_OK(end.wait(receiving));
    REQUIRE_OK(end.wait(sending));
    CHECK(in == message);
    CHECK(peer.get().size() == frames.size());
  }
}

// Signals every 200 us, without SA_RESTART: calls return EINTR.
class Alarms {
 public:
  Alarms() {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, &before_);
    const itimerval often{{0, 200}, {0, 200}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
  }
  ~Alarms() {
    const itimerval never{};
    ::setitimer(ITIMER_REAL, &never, nullptr);
    ::sigaction(SIGALRM, &before_, nullptr);
  }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;

 private:
  struct sigaction before_ {};
};

TEST_CASE("signals in the middle of writes and reads change nothing") {
  OneEnd end(4096);  // made in peace: the plain sockets are no match for signals
  const Alarms alarms;
  const auto message = pattern(4 << 20);
  const auto frames = frames_of(message);
  // The peer's own calls are interrupted as well.
  auto peer = std::async(std::launch::async, [&] {
    std::size_t got = 0;
    std::vector<std::byte> buffer(frames.size());
    while (got < frames.size()) {
      const auto more = ::recv(end.other.number(), buffer.data() + got, buffer.size() - got, 0);
      if (more > 0) got += static_cast<std::size_t>(more);
      if (more == 0) break;
    }
    return got;
  });
  CHECK(end.wait(end.connection->send(message)).ok());
  CHECK(peer.get() == frames.size());
}

TEST_CASE("a sender is held back until its message is wanted") {
  OneEnd end;
  const std::vector<std::byte> message(64 << 20);
  const std::size_t frames = message.size() / kCut;
  const auto wire_bytes = message.size() + frames * (wire::kHeaderBytes + wire::kTrailerBytes);
  const auto sending = end.connection->send(message);
  for (int i = 0; i < 20; ++i) end.turn(5);
  CHECK_FALSE(end.operations.finished(sending));
  auto reader =
      std::async(std::launch::async, [&] { return plain_receive(end.other, wire_bytes).size(); });
  REQUIRE_OK(end.wait(sending));
  CHECK(reader.get() == wire_bytes);
}

TEST_CASE("a damaged frame is refused, naming peer and place") {
  const auto message = pattern(kCut + 500);
  const auto good = frames_of(message);
  const auto damage = [&](std::size_t at) {
    OneEnd end;
    auto frames = good;
    frames[at] ^= std::byte{0x10};
    auto writer = std::async(std::launch::async, [&] { plain_send(end.other, frames); });
    std::vector<std::byte> in(message.size());
    const auto status = end.wait(end.connection->receive(in));
    CHECK(status.code() == ErrorCode::protocol);
    CHECK(end.distrusted.message() == status.message());
    CHECK(contains(status.message(), "rank 0 at 127.0.0.1:"));
    // Whoever sent this is not listened to any more, in either direction.
    CHECK(end.wait(end.connection->receive(in)).code() == ErrorCode::protocol);
    CHECK(end.wait(end.connection->send(in)).code() == ErrorCode::protocol);
    return status.message();
  };
  const std::size_t second = wire::kHeaderBytes + kCut + wire::kTrailerBytes;
  CHECK(contains(damage(30), "wrong header checksum at byte 0 of message 0"));
  CHECK(contains(damage(wire::kHeaderBytes + 5),
                 "wrong body checksum in the 262144 bytes at byte 0"));
  CHECK(contains(damage(wire::kHeaderBytes + kCut), "wrong body checksum"));
  CHECK(contains(damage(second + 12), "wrong header checksum at byte 262144"));
  CHECK(contains(damage(second + wire::kHeaderBytes + 499),
                 "wrong body checksum in the 500 bytes at byte 262144"));
}

TEST_CASE("a body without a checksum: said in the header, and refused where one is demanded") {
  const auto message = pattern(kCut + 500);
  OneEnd from(0, false);
  REQUIRE_OK(from.wait(from.connection->send(message)));
  auto frames = plain_receive(from.other, frames_of(message).size());
  CHECK(frames[7] == std::byte{wire::kBodyUnchecked});
  // As if rank 0 had sent it.
  for (const std::size_t at : {std::size_t{0}, wire::kHeaderBytes + kCut + wire::kTrailerBytes}) {
    frames[at + 20] = std::byte{0};
    const auto crc = wire::crc32c(std::span(frames).subspan(at, 60));
    for (std::size_t i = 0; i < 4; ++i) {
      frames[at + 60 + i] = static_cast<std::byte>((crc >> (8 * i)) & 0xff);
    }
  }
  for (const bool demanded : {false, true}) {
    OneEnd end(0, demanded);
    auto writer = std::async(std::launch::async, [&] { plain_send(end.other, frames); });
    std::vector<std::byte> in(message.size());
    const auto status = end.wait(end.connection->receive(in));
    CHECK(status.code() == (demanded ? ErrorCode::protocol : ErrorCode::ok));
    if (!demanded) CHECK(in == message);
  }
  // Who demands none still checks what has one.
  OneEnd end(0, false);
  frames = frames_of(message);
  frames[wire::kHeaderBytes + 5] ^= std::byte{0x10};
  auto writer = std::async(std::launch::async, [&] { plain_send(end.other, frames); });
  std::vector<std::byte> in(message.size());
  CHECK(contains(end.wait(end.connection->receive(in)).message(), "wrong body checksum"));
}

TEST_CASE("a message out of sequence is refused") {
  OneEnd end;
  const auto message = pattern(10);
  plain_send(end.other, frames_of(message, 1));
  std::vector<std::byte> in(10);
  const auto status = end.wait(end.connection->receive(in));
  CHECK(status.code() == ErrorCode::protocol);
  CHECK(contains(status.message(), "out of sequence"));
}

TEST_CASE("a message of another length ends this connection alone") {
  for (const std::size_t expected : {9, 11}) {
    OneEnd end;
    plain_send(end.other, frames_of(pattern(10)));
    std::vector<std::byte> in(expected);
    const auto status = end.wait(end.connection->receive(in));
    CHECK(status.code() == ErrorCode::protocol);
    CHECK(contains(status.message(),
                   "has 10 bytes, the receive expects " + std::to_string(expected)));
    CHECK(end.distrusted.ok());
  }
}

TEST_CASE("what had arrived before the peer went still counts") {
  OneEnd end;
  const auto first = pattern(5000, 1);
  const auto second = pattern(300, 2);
  plain_send(end.other, frames_of(first, 0));
  plain_send(end.other, frames_of(second, 1));
  const auto third = frames_of(second, 2);
  plain_send(end.other, std::span(third).first(200));
  end.other = FileDescriptor();
  // A send finds out first; that must not take away what can still be read.
  CHECK(end.wait(end.connection->send(first)).code() == ErrorCode::peer_lost);
  std::vector<std::byte> in(5000);
  REQUIRE_OK(end.wait(end.connection->receive(in)));
  CHECK(in == first);
  in.resize(300);
  REQUIRE_OK(end.wait(end.connection->receive(in)));
  CHECK(in == second);
  const auto cut = end.connection->receive(in);
  std::vector<std::byte> never(7);
  const auto behind = end.connection->receive(never);
  for (const Operation operation : {cut, behind}) {
    const auto status = end.wait(operation);
    CHECK(status.code() == ErrorCode::peer_lost);
    CHECK(contains(status.message(), "rank 0 at 127.0.0.1:"));
  }
}

TEST_CASE("a peer that goes ends all sends in flight, without SIGPIPE") {
  OneEnd end(4096);
  const auto message = pattern(1 << 20);
  const auto first = end.connection->send(message);
  const auto second = end.connection->send(message);
  end.turn(5);
  CHECK_FALSE(end.operations.finished(first));
  end.other = FileDescriptor();
  CHECK(end.wait(first).code() == ErrorCode::peer_lost);
  CHECK(end.wait(second).code() == ErrorCode::peer_lost);
}
