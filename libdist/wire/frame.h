// SPDX-License-Identifier: Apache-2.0
// What stands before and after the bytes of a message on a socket: pure functions over spans. The
// format is described in FORMAT.md; tests pin it by golden bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace dist::wire {

inline constexpr std::uint32_t kMagic = 0x54534944;  ///< "DIST" in the order of the bytes
inline constexpr std::uint8_t kVersion = 1;
inline constexpr std::size_t kHeaderBytes = 64;
inline constexpr std::size_t kTrailerBytes = 4;
/// No frame carries more body.
inline constexpr std::size_t kMaxBodyBytes = std::size_t{1} << 20;
/// Every frame of a message but its last carries exactly this much, so that a receiver knows where
/// the next header stands.
inline constexpr std::size_t kFrameBodyBytes = std::size_t{256} << 10;
static_assert(kFrameBodyBytes <= kMaxBodyBytes);

enum class FrameType : std::uint8_t { data = 1, address = 2, table = 3 };

/// Bit of FrameHeader::flags: the last frame of its message.
inline constexpr std::uint8_t kLastFrame = 1;
/// Bit of FrameHeader::flags: the sender left out the body's checksum, the trailer is 0.
inline constexpr std::uint8_t kBodyUnchecked = 2;

struct FrameHeader {
  FrameType type = FrameType::data;
  std::uint8_t channel = 0;
  std::uint8_t flags = 0;
  std::uint64_t job = 0;
  std::uint32_t epoch = 0;
  std::uint32_t source = 0;         ///< rank that sent it
  std::uint64_t sequence = 0;       ///< of the message on its stream, from 0
  std::uint32_t body_bytes = 0;     ///< of this frame
  std::uint64_t message_bytes = 0;  ///< of the whole message
  std::uint64_t offset_bytes = 0;   ///< of this body in the message

  bool operator==(const FrameHeader&) const = default;
};

/// What the reader of a stream knows before a header arrives.
struct FrameExpectation {
  FrameType type = FrameType::data;
  std::uint8_t channel = 0;
  std::uint64_t job = 0;
  std::uint32_t epoch = 0;
  std::uint32_t source = 0;
  std::uint64_t sequence = 0;
  std::uint64_t message_bytes = 0;
  std::uint64_t offset_bytes = 0;
  bool body_checked = true;  ///< refuse kBodyUnchecked
};

/// Why a header was refused, in the order of the checks.
enum class FrameError : std::uint8_t {
  none = 0,
  truncated,
  header_checksum,
  magic,
  version,
  job,
  epoch,
  source,
  type,
  channel,
  flags,
  body_bounds,
  sequence,
  message_bytes,
  offset,
};
std::string_view name_of(FrameError error);

/// Body of the frame that starts at `offset_bytes` of a message.
constexpr std::uint32_t body_bytes_at(std::uint64_t message_bytes, std::uint64_t offset_bytes) {
  const std::uint64_t left = message_bytes - offset_bytes;
  return static_cast<std::uint32_t>(left < kFrameBodyBytes ? left : kFrameBodyBytes);
}

/// Writes all 64 bytes, checksum included.
void encode_header(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out);

/// Reads and checks a header. `out` holds the fields once checksum, magic and version are good,
/// also where a later check failed, so that the error can tell them. Never allocates.
FrameError decode_header(std::span<const std::byte> bytes, const FrameExpectation& expected,
                         FrameHeader* out);

/// The trailer: CRC32C of the body, little-endian.
void encode_trailer(std::uint32_t body_crc, std::span<std::byte, kTrailerBytes> out);
std::uint32_t decode_trailer(std::span<const std::byte, kTrailerBytes> bytes);

}  // namespace dist::wire
