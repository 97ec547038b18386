// SPDX-License-Identifier: Apache-2.0
#include "ps/message.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::ps;

// Two buckets over two servers: pieces 0 and 2 are server 0's, 1 and 3 server 1's, of 10 elements.
const ShardMap& small_map() {
  static const ShardMap map =
      make_shard_map({{{0, 20}, 0, 1}, {{20, 40}, 1, 2}}, {.servers = 2, .min_piece = 1_B});
  return map;
}

Expectation expectation(Direction direction) {
  return {direction, 4, 3, &small_map(), 1, DType::f32};
}

Header push() {
  return {.kind = Kind::push,
          .worker = 3,
          .piece = 1,
          .step = 0x1122334455667788,
          .version = 0x0102030405060708,
          .payload_bytes = 40};
}

std::string hex(const HeaderBytes& bytes) {
  std::string out;
  for (const std::byte byte : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[std::to_integer<unsigned>(byte) >> 4];
    out += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return out;
}

Status outcome(const Header& header, Direction direction = Direction::to_server) {
  return decode(encode(header), expectation(direction)).status();
}

TEST_CASE("golden bytes") {
  REQUIRE(hex(encode(push())) ==
          "44505331"
          "03"
          "00"
          "0000"
          "03000000"
          "01000000"
          "8877665544332211"
          "0807060504030201"
          "2800000000000000"
          "0000000000000000");
  REQUIRE(hex(encode({.kind = Kind::hello, .worker = 2, .value = 0xabcdef})) ==
          "44505331"
          "01"
          "00"
          "0000"
          "02000000"
          "00000000"
          "0000000000000000"
          "0000000000000000"
          "0000000000000000"
          "efcdab0000000000");
  REQUIRE(
      hex(encode(
          {.kind = Kind::failed, .code = ErrorCode::peer_lost, .worker = kNobody, .step = 7})) ==
      "44505331"
      "09"
      "04"
      "0000"
      "ffffffff"
      "00000000"
      "0700000000000000"
      "0000000000000000"
      "0000000000000000"
      "0000000000000000");
}

TEST_CASE("what was encoded is decoded") {
  for (const auto kind : {Kind::hello, Kind::pull, Kind::bye, Kind::save}) {
    const Header header{.kind = kind, .worker = 3, .step = 5, .value = 9};
    REQUIRE(decode(encode(header), expectation(Direction::to_server)).value() == header);
  }
  for (const auto kind : {Kind::welcome, Kind::farewell, Kind::failed}) {
    const Header header{.kind = kind, .code = ErrorCode::timed_out, .worker = 3, .step = 5};
    REQUIRE(decode(encode(header), expectation(Direction::to_worker)).value() == header);
  }
  for (const auto kind : {Kind::init, Kind::push, Kind::reply}) {
    Header header = push();
    header.kind = kind;
    const auto direction = kind == Kind::reply ? Direction::to_worker : Direction::to_server;
    REQUIRE(decode(encode(header), expectation(direction)).value() == header);
  }
  const Header blames_other{.kind = Kind::failed, .worker = 1};
  REQUIRE(outcome(blames_other, Direction::to_worker).ok());
}

TEST_CASE("a header that cannot be is a protocol error") {
  const auto refused = [](const Header& header, const std::string& word,
                          Direction direction = Direction::to_server) {
    const Status status = outcome(header, direction);
    INFO(status.message());
    REQUIRE(status.code() == ErrorCode::protocol);
    REQUIRE(status.message().find(word) != std::string::npos);
  };
  Header header = push();
  header.piece = 4;
  refused(header, "4 pieces");
  header.piece = 0xffffffff;
  refused(header, "4 pieces");
  header.piece = 2;
  refused(header, "server 0's");
  header = push();
  header.payload_bytes = 44;
  refused(header, "payload size is 44, expected 40");
  header.payload_bytes = 0xffffffffffffffff;
  refused(header, "payload size");
  header = push();
  header.worker = 2;
  refused(header, "worker is 2, expected 3");
  header = push();
  header.kind = Kind::reply;
  refused(header, "a reply came to a server");
  refused(push(), "a push came to a worker", Direction::to_worker);
  header = {.kind = Kind::pull, .worker = 3, .payload_bytes = 8};
  refused(header, "payload size is 8, expected 0");
  header = {.kind = Kind::pull, .worker = 3, .piece = 1};
  refused(header, "piece is 1, expected 0");
  header = {.kind = Kind::failed, .worker = 4};
  refused(header, "worker is 4", Direction::to_worker);
  header = {.kind = static_cast<Kind>(11), .worker = 3};
  refused(header, "kind 11 is unknown");
  header.kind = static_cast<Kind>(0);
  refused(header, "kind 0 is unknown");
  header = {.kind = Kind::failed, .code = static_cast<ErrorCode>(99), .worker = 3};
  refused(header, "error code is 99", Direction::to_worker);
}

TEST_CASE("wrong length, magic and reserved bytes are refused") {
  const auto good = encode(push());
  const auto expected = expectation(Direction::to_server);
  for (std::size_t length = 0; length < kHeaderBytes; ++length) {
    REQUIRE(!decode(std::span(good).first(length), expected).ok());
  }
  for (const std::size_t at : {0, 1, 2, 3, 6, 7}) {
    auto bad = good;
    bad[at] ^= std::byte{1};
    REQUIRE(decode(bad, expected).status().code() == ErrorCode::protocol);
  }
}

TEST_CASE("the README describes every kind and constant") {
  std::ifstream file(std::string(DIST_SOURCE_DIR) + "/ps/README.md");
  std::stringstream text;
  text << file.rdbuf();
  for (int kind = 1; kind <= 9; ++kind) {
    const auto name = name_of(static_cast<Kind>(kind));
    const auto row = fmt::format("| {} | {} |", kind, name);
    INFO(row);
    REQUIRE(text.str().find(row) != std::string::npos);
  }
  REQUIRE(text.str().find("48-byte") != std::string::npos);
  REQUIRE(text.str().find("0x31535044") != std::string::npos);
}

}  // namespace
