// SPDX-License-Identifier: Apache-2.0
// The headers that workers and servers exchange, byte by byte; ps/README.md holds their table.
// Pure: no transport. Sizes of payloads follow from the shard map, never from the wire.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "libdist/status.h"
#include "ps/shard.h"

namespace dist::ps {

inline constexpr std::size_t kHeaderBytes = 48;
inline constexpr std::uint32_t kMagic = 0x31535044;   // "DPS1"
inline constexpr std::uint32_t kNobody = 0xffffffff;  // no worker is meant
inline constexpr std::uint64_t kFinal = 1;            // of a pull: no push follows it
using HeaderBytes = std::array<std::byte, kHeaderBytes>;

enum class Kind : std::uint8_t {
  // Worker to server.
  hello = 1,  ///< value = layout hash; the first message of a connection
  init = 2,   ///< a piece's first parameters follow; from worker 0 only
  push = 3,   ///< a piece's gradient of `step` follows; version = what it was computed from
  pull = 4,   ///< asks for all pieces of this server, with `step` steps of this worker in them;
              ///< value = kFinal: and with everything that others still push
  bye = 5,    ///< the worker's last message
  // Server to worker.
  welcome = 6,   ///< answers hello; value = the server's layout hash, step = with which the worker
                 ///< goes on, version = 1 where the server has its first parameters, more by the
                 ///< step of the checkpoint that it took them from
  reply = 7,     ///< a piece's parameters follow; value = staleness of the worker's last push of it
  farewell = 8,  ///< answers bye; the server's last message
  failed = 9,    ///< the server stops; worker = whose fault (or kNobody), code = ErrorCode; value =
                 ///< rank + 1 of a server that was lost, if one was
  // Worker to server again.
  save = 10,  ///< worker 0 (any where they come and go) asks for a checkpoint, with `step` of its
              ///< steps in it; value = its number
};
std::string_view name_of(Kind kind);

enum class Direction : std::uint8_t { to_server, to_worker };

/// Fields that a kind does not use are 0.
struct Header {
  Kind kind = Kind::hello;
  ErrorCode code = ErrorCode::ok;
  std::uint32_t worker = 0;
  std::uint32_t piece = 0;
  std::uint64_t step = 0;
  std::uint64_t version = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t value = 0;

  bool operator==(const Header&) const = default;
};

class Packer;

/// What a receiver checks a header against.
struct Expectation {
  Direction direction = Direction::to_server;
  std::uint32_t workers = 0;
  std::uint32_t worker = 0;  ///< at the other end, or at this one
  const ShardMap* map = nullptr;
  int server = 0;
  DType dtype = DType::f32;
  const Packer* packer = nullptr;  ///< null: every payload travels as it is
  bool in_place = false;  ///< payloads lie in memory that both reach: no message carries one
};

HeaderBytes encode(const Header& header);

/// Error (protocol): wrong length, magic or kind, a worker, piece or payload size that cannot be.
Result<Header> decode(std::span<const std::byte> bytes, const Expectation& expected);

}  // namespace dist::ps
