// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tests/support/ranks.h"

namespace dist::test {

TimePoint soon() { return Clock::now() + std::chrono::seconds(60); }

// Word by word, and compared as a block: sanitizers make each access of a test dear.
std::vector<std::byte> pattern(std::size_t bytes, int seed) {
  std::vector<std::byte> made(bytes);
  std::uint64_t word = static_cast<std::uint64_t>(seed) * 0x2545f4914f6cdd1d + 1;
  for (std::size_t at = 0; at < bytes; at += sizeof word) {
    word = word * 0x5851f42d4c957f2d + 0x14057b7ef767814f;
    std::memcpy(made.data() + at, &word, std::min(sizeof word, bytes - at));
  }
  return made;
}

void expect_pattern(std::span<const std::byte> bytes, int seed, const std::string& what) {
  const auto right = pattern(bytes.size(), seed);
  if (bytes.empty() || std::memcmp(bytes.data(), right.data(), right.size()) == 0) return;
  const auto wrong = std::mismatch(right.begin(), right.end(), bytes.begin()).first - right.begin();
  expect(false, "{}: byte {} of {} is wrong", what, wrong, right.size());
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
