// SPDX-License-Identifier: Apache-2.0
// Messages with known content, for tests of transports.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libdist/transport/transport.h"

namespace dist::test {

/// Far enough away that only a hang reaches it.
TimePoint soon();

/// Bytes that differ from place to place and from seed to seed.
std::vector<std::byte> pattern(std::size_t bytes, int seed);

/// Throws, naming the first wrong byte, unless `bytes` is pattern(bytes.size(), seed).
void expect_pattern(std::span<const std::byte> bytes, int seed, const std::string& what);

/// The bytes of one number.
std::span<std::byte> bytes_of(std::uint32_t& value);

/// Sends and receives that are started together and checked together.
class Traffic {
 public:
  explicit Traffic(Transport& transport) : transport_(transport) {}
  void send(Rank to, Channel channel, std::size_t bytes, int seed);
  void receive(Rank from, Channel channel, std::size_t bytes, int seed);
  /// Waits for all and throws unless all succeeded and all received bytes are right.
  void finish();

 private:
  struct Message {
    std::vector<std::byte> bytes;
    Operation operation;
    std::optional<int> seed;  // of received ones
    std::string what;
  };

  Transport& transport_;
  std::deque<Message> messages_;
};

}  // namespace dist::test
