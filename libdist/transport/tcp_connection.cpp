// SPDX-License-Identifier: Apache-2.0
// Header, body and trailer go between the socket and the caller's memory in one call, without a
// copy in between.
#include "libdist/transport/tcp_connection.h"

#include <fmt/format.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "libdist/transport/tcp_socket.h"
#include "libdist/wire/crc32c.h"

namespace dist::tcp {
namespace {

// One connection's share of a turn, so that the others and the sums are not starved.
constexpr std::size_t kBudgetBytes = std::size_t{512} << 10;

// What is left of three consecutive pieces after `skip` bytes.
struct Pieces {
  Pieces(std::array<std::span<const std::byte>, 3> pieces, std::size_t skip) {
    message.msg_iov = left.data();
    for (const auto piece : pieces) {
      const auto skipped = std::min(skip, piece.size());
      skip -= skipped;
      if (skipped == piece.size()) continue;
      // The kernel's one struct for both directions has no const.
      left[message.msg_iovlen++] = {const_cast<std::byte*>(piece.data() + skipped),
                                    piece.size() - skipped};
    }
  }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;

  std::array<iovec, 3> left;
  msghdr message{};
};

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

Connection::Connection(FileDescriptor socket, const Identity& identity, OperationTable& operations,
                       TransferCounters& counters, OnDistrust on_distrust)
    : socket_(std::move(socket)),
      identity_(identity),
      address_(peer_text(socket_.number())),
      operations_(operations),
      counters_(counters),
      on_distrust_(std::move(on_distrust)) {}

bool Connection::pump() {
  const auto in_flight = operations_.in_flight();
  const auto before = moved_bytes_;
  pump_receives();
  pump_sends();
  return moved_bytes_ != before || operations_.in_flight() < in_flight;
}

short Connection::events() const {
  return static_cast<short>((receives_.empty() ? 0 : POLLIN) | (sends_.empty() ? 0 : POLLOUT));
}

// --- Sending -------------------------------------------------------------------------------------

Operation Connection::send(std::span<const std::byte> bytes, wire::FrameType type) {
  const Operation operation = operations_.add();
  if (!send_failure_.ok()) {
    operations_.finish(operation, send_failure_);
    return operation;
  }
  sends_.push_back({operation, bytes, type});
  if (sends_.size() == 1) pump_sends();
  return operation;
}

void Connection::pump_sends() {
  std::size_t budget = kBudgetBytes;
  while (!sends_.empty()) {
    if (!out_started_ && !start_send()) return;
    const auto before = out_.moved_bytes;
    if (!write_some()) return;
    budget -= std::min(budget, out_.moved_bytes - before);
    if (out_.moved_bytes == out_.total_bytes()) end_send_frame();
    if (budget == 0) return;
  }
}

// False where the peer has gone: the kernel would take the bytes and drop them later.
bool Connection::start_send() {
  if (peer_has_hung_up()) {
    fail_sends(lost("it closed the connection"));
    return false;
  }
  out_.offset_bytes = 0;
  out_started_ = true;
  begin_send_frame();
  return true;
}

void Connection::begin_send_frame() {
  const Send& send = sends_.front();
  out_.body_bytes = wire::body_bytes_at(send.bytes.size(), out_.offset_bytes);
  out_.moved_bytes = 0;
  const bool last = out_.offset_bytes + out_.body_bytes == send.bytes.size();
  const auto flags =
      (last ? wire::kLastFrame : 0) | (identity_.checksums ? 0 : wire::kBodyUnchecked);
  wire::encode_header({.type = send.type,
                       .channel = static_cast<std::uint8_t>(identity_.channel),
                       .flags = static_cast<std::uint8_t>(flags),
                       .job = identity_.job,
                       .epoch = identity_.epoch,
                       .source = static_cast<std::uint32_t>(identity_.rank),
                       .sequence = out_.sequence,
                       .body_bytes = static_cast<std::uint32_t>(out_.body_bytes),
                       .message_bytes = send.bytes.size(),
                       .offset_bytes = out_.offset_bytes},
                      out_.header);
  // The checksum leaves the body in the cache for the copy into the kernel that follows.
  out_.body_crc = identity_.checksums
                      ? wire::crc32c(send.bytes.subspan(out_.offset_bytes, out_.body_bytes))
                      : 0;
  wire::encode_trailer(out_.body_crc, out_.trailer);
}

// False when nothing more can be written in this turn.
bool Connection::write_some() {
  const auto body = sends_.front().bytes.subspan(out_.offset_bytes, out_.body_bytes);
  const Pieces pieces({out_.header, body, out_.trailer}, out_.moved_bytes);
  const auto written = ::sendmsg(socket_.number(), &pieces.message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (written >= 0) {
    out_.moved_bytes += static_cast<std::size_t>(written);
    moved_bytes_ += static_cast<std::size_t>(written);
    return true;
  }
  if (errno == EINTR) return true;
  if (!would_block(errno)) fail_sends(lost(std::strerror(errno)));
  return false;
}

void Connection::end_send_frame() {
  counters_.sent += Bytes(out_.body_bytes);
  out_.offset_bytes += out_.body_bytes;
  if (out_.offset_bytes < sends_.front().bytes.size()) return begin_send_frame();
  ++counters_.messages_sent;
  ++out_.sequence;
  out_started_ = false;
  operations_.finish(sends_.front().operation, {});
  sends_.pop_front();
}

// --- Receiving -----------------------------------------------------------------------------------

Operation Connection::receive(std::span<std::byte> bytes, wire::FrameType type) {
  const Operation operation = operations_.add();
  if (!receive_failure_.ok()) {
    operations_.finish(operation, receive_failure_);
    return operation;
  }
  receives_.push_back({operation, bytes, type});
  return operation;
}

void Connection::pump_receives() {
  std::size_t budget = kBudgetBytes;
  const auto ended = receives_.size();
  while (!receives_.empty() && receives_.size() == ended && budget != 0) {
    if (!in_started_) {
      in_.offset_bytes = 0;
      in_started_ = true;
      begin_receive_frame();
    }
    const auto before = in_.moved_bytes;
    if (!read_some()) return;
    budget -= std::min(budget, in_.moved_bytes - before);
    if (in_.moved_bytes == in_.total_bytes() && !end_receive_frame()) return;
  }
}

void Connection::begin_receive_frame() {
  in_.body_bytes = wire::body_bytes_at(receives_.front().bytes.size(), in_.offset_bytes);
  in_.moved_bytes = 0;
  in_.body_crc = 0;
}

// Where the cut is known, so is the place of each byte. A peer that cuts otherwise is found out by
// the header, and cannot write outside the span.
// False when nothing more can be read in this turn.
bool Connection::read_some() {
  const auto body = receives_.front().bytes.subspan(in_.offset_bytes, in_.body_bytes);
  Pieces pieces({in_.header, body, in_.trailer}, in_.moved_bytes);
  const auto got = ::recvmsg(socket_.number(), &pieces.message, MSG_DONTWAIT);
  if (got > 0) return take_in(static_cast<std::size_t>(got));
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && would_block(errno)) return false;
  const auto why = lost(got == 0 ? "it closed the connection" : std::strerror(errno));
  fail_receives(why);
  if (got == 0) fail_sends(why);  // who has closed does not read either
  return false;
}

// Accounts for bytes that have arrived; checks the header as soon as it is whole.
bool Connection::take_in(std::size_t bytes) {
  const auto before = in_.moved_bytes;
  in_.moved_bytes += bytes;
  moved_bytes_ += bytes;
  if (before < wire::kHeaderBytes && in_.moved_bytes >= wire::kHeaderBytes && !check_header()) {
    return false;
  }
  // The part of the body that has just come is still in the cache.
  const auto body_begin =
      std::clamp(before, wire::kHeaderBytes, wire::kHeaderBytes + in_.body_bytes) -
      wire::kHeaderBytes;
  const auto body_end =
      std::clamp(in_.moved_bytes, wire::kHeaderBytes, wire::kHeaderBytes + in_.body_bytes) -
      wire::kHeaderBytes;
  if (body_end > body_begin) {
    const auto arrived =
        receives_.front().bytes.subspan(in_.offset_bytes + body_begin, body_end - body_begin);
    if (in_.checked) in_.body_crc = wire::crc32c(arrived, in_.body_crc);
    counters_.received += Bytes(arrived.size());
  }
  return true;
}

bool Connection::check_header() {
  const Receive& receive = receives_.front();
  wire::FrameHeader header;
  const auto error = wire::decode_header(in_.header,
                                         {.type = receive.type,
                                          .channel = static_cast<std::uint8_t>(identity_.channel),
                                          .job = identity_.job,
                                          .epoch = identity_.epoch,
                                          .source = static_cast<std::uint32_t>(identity_.peer),
                                          .sequence = in_.sequence,
                                          .message_bytes = receive.bytes.size(),
                                          .offset_bytes = in_.offset_bytes,
                                          .body_checked = identity_.checksums},
                                         &header);
  if (error == wire::FrameError::none) {
    in_.checked = (header.flags & wire::kBodyUnchecked) == 0;
    return true;
  }
  if (error == wire::FrameError::message_bytes) {
    // A mistake of the program, not of the wire: the other channels can be trusted.
    fail(Status::protocol(fmt::format(
        "{} -> message {} on channel {} has {} bytes, the receive expects {}", who(), in_.sequence,
        static_cast<int>(identity_.channel), header.message_bytes, receive.bytes.size())));
  } else {
    distrust(fmt::format("{} at byte {} of message {}", wire::name_of(error), in_.offset_bytes,
                         in_.sequence));
  }
  return false;
}

bool Connection::end_receive_frame() {
  if (wire::decode_trailer(in_.trailer) != in_.body_crc) {
    distrust(fmt::format("wrong body checksum in the {} bytes at byte {} of message {}",
                         in_.body_bytes, in_.offset_bytes, in_.sequence));
    return false;
  }
  in_.offset_bytes += in_.body_bytes;
  if (in_.offset_bytes < receives_.front().bytes.size()) {
    begin_receive_frame();
    return true;
  }
  ++counters_.messages_received;
  ++in_.sequence;
  in_started_ = false;
  operations_.finish(receives_.front().operation, {});
  receives_.pop_front();
  return true;
}

// --- Ends ----------------------------------------------------------------------------------------

void Connection::fail(const Status& why) {
  fail_sends(why);
  fail_receives(why);
  socket_ = FileDescriptor();
}

void Connection::stop_receiving(const Status& why) { fail_receives(why); }

bool Connection::drained() {
  if (!socket_.valid()) return true;
  const int number = socket_.number();
  int unread = 0;
  int unacknowledged = 0;
  tcp_info information{};
  socklen_t length = sizeof information;
  return ::ioctl(number, FIONREAD, &unread) != 0 || unread == 0 ||
         ::ioctl(number, SIOCOUTQ, &unacknowledged) != 0 || unacknowledged == 0 ||
         ::getsockopt(number, IPPROTO_TCP, TCP_INFO, &information, &length) != 0 ||
         information.tcpi_state == TCP_CLOSE;
}

// Sees a closed peer also behind bytes that nobody has read yet.
bool Connection::peer_has_hung_up() {
  pollfd watched{socket_.number(), POLLRDHUP, 0};
  return ::poll(&watched, 1, 0) > 0;
}

void Connection::fail_sends(const Status& why) {
  if (send_failure_.ok()) send_failure_ = why;
  for (const Send& send : std::exchange(sends_, {})) {
    operations_.finish(send.operation, send_failure_);
  }
  out_started_ = false;
}

void Connection::fail_receives(const Status& why) {
  if (receive_failure_.ok()) receive_failure_ = why;
  for (const Receive& receive : std::exchange(receives_, {})) {
    operations_.finish(receive.operation, receive_failure_);
  }
  in_started_ = false;
}

void Connection::distrust(const std::string& what) {
  const auto why = Status::protocol(fmt::format("{} -> {}", who(), what));
  fail(why);
  if (const auto tell = std::exchange(on_distrust_, nullptr)) tell(why);
}

Status Connection::lost(const std::string& how) const {
  return Status::peer_lost(fmt::format("{} is gone: {}", who(), how));
}

std::string Connection::who() const {
  return fmt::format("tcp: rank {} at {}", identity_.peer, address_);
}

}  // namespace dist::tcp
