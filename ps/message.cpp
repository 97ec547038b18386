// SPDX-License-Identifier: Apache-2.0
#include "ps/message.h"

#include <fmt/format.h>

#include <bit>

#include "ps/packing.h"

namespace dist::ps {
namespace {

// Offsets of the fields, little-endian; ps/README.md shows the same.
constexpr std::size_t kMagicAt = 0;
constexpr std::size_t kKindAt = 4;
constexpr std::size_t kCodeAt = 5;
constexpr std::size_t kReservedAt = 6;
constexpr std::size_t kWorkerAt = 8;
constexpr std::size_t kPieceAt = 12;
constexpr std::size_t kStepAt = 16;
constexpr std::size_t kVersionAt = 24;
constexpr std::size_t kPayloadBytesAt = 32;
constexpr std::size_t kValueAt = 40;

template <typename T>
void put(HeaderBytes& out, std::size_t at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out[at + i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
  }
}

template <typename T>
T get(std::span<const std::byte> in, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value |= std::to_integer<std::uint64_t>(in[at + i]) << (8 * i);
  }
  return static_cast<T>(value);
}

bool carries_piece(Kind kind) {
  return kind == Kind::init || kind == Kind::push || kind == Kind::reply;
}

Direction direction_of(Kind kind) {
  const bool to_server = kind < Kind::welcome || kind == Kind::save;
  return to_server ? Direction::to_server : Direction::to_worker;
}

Status refuse(std::string_view what, std::uint64_t found, std::uint64_t wanted) {
  return Status::protocol(
      fmt::format("parameter-server header: {} is {}, expected {}", what, found, wanted));
}

Status check_piece(const Header& header, const Expectation& expected) {
  const auto& pieces = expected.map->pieces;
  if (header.piece >= pieces.size()) {
    return Status::protocol(
        fmt::format("parameter-server header: {} of piece {}, but there are {} pieces",
                    name_of(header.kind), header.piece, pieces.size()));
  }
  const Piece& piece = pieces[header.piece];
  if (piece.server != expected.server) {
    return Status::protocol(fmt::format(
        "parameter-server header: {} of piece {}, which is server {}'s and not server {}'s",
        name_of(header.kind), header.piece, piece.server, expected.server));
  }
  const Elems elems(piece.range.elems());
  auto payload = expected.packer != nullptr
                     ? expected.packer->payload_bytes(header.kind, elems).value
                     : bytes_of(elems, expected.dtype).value;
  if (expected.in_place) payload = 0;
  if (header.payload_bytes != payload) {
    return refuse("payload size", header.payload_bytes, payload);
  }
  return {};
}

Status check_fields(const Header& header, const Expectation& expected) {
  const bool nobody = header.kind == Kind::failed && header.worker == kNobody;
  if (header.kind == Kind::failed ? !nobody && header.worker >= expected.workers
                                  : header.worker != expected.worker) {
    return refuse("worker", header.worker, expected.worker);
  }
  const auto last_code = static_cast<unsigned>(ErrorCode::cancelled);
  if (static_cast<unsigned>(header.code) > last_code) {
    return refuse("error code", static_cast<unsigned>(header.code), last_code);
  }
  if (carries_piece(header.kind)) return check_piece(header, expected);
  if (header.piece != 0) return refuse("piece", header.piece, 0);
  if (header.payload_bytes != 0) return refuse("payload size", header.payload_bytes, 0);
  return {};
}

}  // namespace

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::hello:
      return "hello";
    case Kind::init:
      return "init";
    case Kind::push:
      return "push";
    case Kind::pull:
      return "pull";
    case Kind::bye:
      return "bye";
    case Kind::welcome:
      return "welcome";
    case Kind::reply:
      return "reply";
    case Kind::farewell:
      return "farewell";
    case Kind::failed:
      return "failed";
    case Kind::save:
      return "save";
  }
  return "unknown";
}

HeaderBytes encode(const Header& header) {
  HeaderBytes out{};
  put(out, kMagicAt, kMagic);
  put(out, kKindAt, static_cast<std::uint8_t>(header.kind));
  put(out, kCodeAt, static_cast<std::uint8_t>(header.code));
  put(out, kWorkerAt, header.worker);
  put(out, kPieceAt, header.piece);
  put(out, kStepAt, header.step);
  put(out, kVersionAt, header.version);
  put(out, kPayloadBytesAt, header.payload_bytes);
  put(out, kValueAt, header.value);
  return out;
}

Result<Header> decode(std::span<const std::byte> bytes, const Expectation& expected) {
  if (bytes.size() != kHeaderBytes) return refuse("length", bytes.size(), kHeaderBytes);
  const auto magic = get<std::uint32_t>(bytes, kMagicAt);
  if (magic != kMagic) return refuse("magic", magic, kMagic);
  const auto kind = get<std::uint8_t>(bytes, kKindAt);
  if (kind < static_cast<int>(Kind::hello) || kind > static_cast<int>(Kind::save)) {
    return Status::protocol(fmt::format("parameter-server header: kind {} is unknown", kind));
  }
  Header header;
  header.kind = static_cast<Kind>(kind);
  if (direction_of(header.kind) != expected.direction) {
    return Status::protocol(
        fmt::format("parameter-server header: a {} came to a {}", name_of(header.kind),
                    expected.direction == Direction::to_server ? "server" : "worker"));
  }
  if (const auto reserved = get<std::uint16_t>(bytes, kReservedAt); reserved != 0) {
    return refuse("reserved field", reserved, 0);
  }
  header.code = static_cast<ErrorCode>(get<std::uint8_t>(bytes, kCodeAt));
  header.worker = get<std::uint32_t>(bytes, kWorkerAt);
  header.piece = get<std::uint32_t>(bytes, kPieceAt);
  header.step = get<std::uint64_t>(bytes, kStepAt);
  header.version = get<std::uint64_t>(bytes, kVersionAt);
  header.payload_bytes = get<std::uint64_t>(bytes, kPayloadBytesAt);
  header.value = get<std::uint64_t>(bytes, kValueAt);
  DIST_TRY(check_fields(header, expected));
  return header;
}

}  // namespace dist::ps
