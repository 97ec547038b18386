// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/traffic.h"

#include <fmt/format.h>

#include "tests/support/ranks.h"

namespace dist::test {

TimePoint soon() { return Clock::now() + std::chrono::seconds(60); }

std::vector<std::byte> pattern(std::size_t bytes, int seed) {
  std::vector<std::byte> made(bytes);
  const auto start = static_cast<std::size_t>(seed) * 37;
  for (std::size_t i = 0; i < bytes; ++i) {
    made[i] = static_cast<std::byte>(start + i * 131 + (i >> 8) * 7 + (i >> 16));
  }
  return made;
}

void expect_pattern(std::span<const std::byte> bytes, int seed, const std::string& what) {
  const auto right = pattern(bytes.size(), seed);
  for (std::size_t i = 0; i < right.size(); ++i) {
    if (bytes[i] == right[i]) continue;
    expect(false, fmt::format("{}: byte {} of {} is wrong", what, i, right.size()));
  }
}

std::span<std::byte> bytes_of(std::uint32_t& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

void Traffic::send(Rank to, Channel channel, std::size_t bytes, int seed) {
  Message& message = messages_.emplace_back();
  message.bytes = pattern(bytes, seed);
  message.what = fmt::format("send to rank {} on {}", to, name_of(channel));
  message.operation = transport_.send(to, channel, message.bytes);
}

void Traffic::receive(Rank from, Channel channel, std::size_t bytes, int seed) {
  Message& message = messages_.emplace_back();
  message.bytes.resize(bytes);
  message.seed = seed;
  message.what = fmt::format("receive from rank {} on {}", from, name_of(channel));
  message.operation = transport_.receive(from, channel, message.bytes);
}

void Traffic::finish() {
  for (Message& message : messages_) {
    expect_ok(transport_.wait(message.operation, soon()).because(message.what));
    if (message.seed) expect_pattern(message.bytes, *message.seed, message.what);
  }
  messages_.clear();
}

}  // namespace dist::test
