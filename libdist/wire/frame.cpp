// SPDX-License-Identifier: Apache-2.0
// Positions of the header's fields; FORMAT.md has the same table.
#include "libdist/wire/frame.h"

#include <algorithm>

#include "libdist/wire/crc32c.h"
#include "libdist/wire/little_endian.h"

namespace dist::wire {
namespace {

constexpr std::size_t kMagicAt = 0;
constexpr std::size_t kVersionAt = 4;
constexpr std::size_t kTypeAt = 5;
constexpr std::size_t kChannelAt = 6;
constexpr std::size_t kFlagsAt = 7;
constexpr std::size_t kJobAt = 8;
constexpr std::size_t kEpochAt = 16;
constexpr std::size_t kSourceAt = 20;
constexpr std::size_t kSequenceAt = 24;
constexpr std::size_t kMessageBytesAt = 32;
constexpr std::size_t kOffsetAt = 40;
constexpr std::size_t kBodyBytesAt = 48;
constexpr std::size_t kReservedAt = 52;  // 8 bytes of zero
constexpr std::size_t kChecksumAt = 60;

FrameHeader read_fields(const std::byte* at) {
  FrameHeader header;
  header.type = static_cast<FrameType>(load<std::uint8_t>(at + kTypeAt));
  header.channel = load<std::uint8_t>(at + kChannelAt);
  header.flags = load<std::uint8_t>(at + kFlagsAt);
  header.job = load<std::uint64_t>(at + kJobAt);
  header.epoch = load<std::uint32_t>(at + kEpochAt);
  header.source = load<std::uint32_t>(at + kSourceAt);
  header.sequence = load<std::uint64_t>(at + kSequenceAt);
  header.body_bytes = load<std::uint32_t>(at + kBodyBytesAt);
  header.message_bytes = load<std::uint64_t>(at + kMessageBytesAt);
  header.offset_bytes = load<std::uint64_t>(at + kOffsetAt);
  return header;
}

// The fields that say who sent this and what it is.
FrameError check_identity(const FrameHeader& header, const FrameExpectation& expected) {
  if (header.job != expected.job) return FrameError::job;
  if (header.epoch != expected.epoch) return FrameError::epoch;
  if (header.source != expected.source) return FrameError::source;
  if (header.type != expected.type) return FrameError::type;
  if (header.channel != expected.channel) return FrameError::channel;
  return FrameError::none;
}

// The fields that say where the body belongs. Differences, never sums: sums of wire values wrap.
FrameError check_place(const FrameHeader& header, const FrameExpectation& expected) {
  if (header.body_bytes > kMaxBodyBytes || header.offset_bytes > header.message_bytes ||
      header.body_bytes > header.message_bytes - header.offset_bytes) {
    return FrameError::body_bounds;
  }
  if (header.sequence != expected.sequence) return FrameError::sequence;
  if (header.message_bytes != expected.message_bytes) return FrameError::message_bytes;
  if (header.offset_bytes != expected.offset_bytes) return FrameError::offset;
  if (header.body_bytes != body_bytes_at(header.message_bytes, header.offset_bytes)) {
    return FrameError::body_bounds;
  }
  const bool last = header.body_bytes == header.message_bytes - header.offset_bytes;
  const auto optional = expected.body_checked ? 0 : kBodyUnchecked;
  return (header.flags & ~optional) == (last ? kLastFrame : 0) ? FrameError::none
                                                               : FrameError::flags;
}

}  // namespace

std::string_view name_of(FrameError error) {
  switch (error) {
    case FrameError::none:
      return "none";
    case FrameError::truncated:
      return "truncated header";
    case FrameError::header_checksum:
      return "wrong header checksum";
    case FrameError::magic:
      return "wrong magic";
    case FrameError::version:
      return "another version of the wire format";
    case FrameError::job:
      return "frame of another job";
    case FrameError::epoch:
      return "frame of another epoch";
    case FrameError::source:
      return "frame of another rank";
    case FrameError::type:
      return "frame type not allowed here";
    case FrameError::channel:
      return "frame of another channel";
    case FrameError::flags:
      return "wrong flags";
    case FrameError::body_bounds:
      return "body outside its message";
    case FrameError::sequence:
      return "message out of sequence";
    case FrameError::message_bytes:
      return "message of another length";
    case FrameError::offset:
      return "frame out of order";
  }
  return "unknown";
}

void encode_header(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  std::byte* at = out.data();
  store(kMagic, at + kMagicAt);
  store(kVersion, at + kVersionAt);
  store(static_cast<std::uint8_t>(header.type), at + kTypeAt);
  store(header.channel, at + kChannelAt);
  store(header.flags, at + kFlagsAt);
  store(header.job, at + kJobAt);
  store(header.epoch, at + kEpochAt);
  store(header.source, at + kSourceAt);
  store(header.sequence, at + kSequenceAt);
  store(header.message_bytes, at + kMessageBytesAt);
  store(header.offset_bytes, at + kOffsetAt);
  store(header.body_bytes, at + kBodyBytesAt);
  store(crc32c(out.first<kChecksumAt>()), at + kChecksumAt);
}

FrameError decode_header(std::span<const std::byte> bytes, const FrameExpectation& expected,
                         FrameHeader* out) {
  if (bytes.size() < kHeaderBytes) return FrameError::truncated;
  const std::byte* at = bytes.data();
  if (crc32c(bytes.first(kChecksumAt)) != load<std::uint32_t>(at + kChecksumAt)) {
    return FrameError::header_checksum;
  }
  if (load<std::uint32_t>(at + kMagicAt) != kMagic) return FrameError::magic;
  if (load<std::uint8_t>(at + kVersionAt) != kVersion) return FrameError::version;
  *out = read_fields(at);
  if (const auto error = check_identity(*out, expected); error != FrameError::none) return error;
  if (load<std::uint64_t>(at + kReservedAt) != 0) return FrameError::flags;
  return check_place(*out, expected);
}

void encode_trailer(std::uint32_t body_crc, std::span<std::byte, kTrailerBytes> out) {
  store(body_crc, out.data());
}

std::uint32_t decode_trailer(std::span<const std::byte, kTrailerBytes> bytes) {
  return load<std::uint32_t>(bytes.data());
}

}  // namespace dist::wire
