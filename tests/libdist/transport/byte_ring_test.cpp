// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/byte_ring.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

namespace dist {
namespace {

struct Ring {
  explicit Ring(std::size_t bytes) : memory(bytes) {}
  ByteRingPositions positions;
  std::vector<std::byte> memory;
  ByteRingWriter writer() { return {&positions, memory}; }
  ByteRingReader reader() { return {&positions, memory}; }
};

std::vector<std::byte> counted(std::size_t bytes, std::size_t from = 0) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < bytes; ++i) made[i] = static_cast<std::byte>((from + i) % 251);
  return made;
}

}  // namespace

TEST_CASE("bytes come out in order, whatever the sizes of puts and gets") {
  constexpr std::size_t kTotal = 300;
  for (const std::size_t ring_bytes : {1, 2, 7, 64}) {
    for (std::size_t put_bytes = 1; put_bytes <= 9; ++put_bytes) {
      for (std::size_t get_bytes = 1; get_bytes <= 9; ++get_bytes) {
        Ring ring(ring_bytes);
        auto writer = ring.writer();
        auto reader = ring.reader();
        const auto all = counted(kTotal);
        std::vector<std::byte> come;
        for (std::size_t sent = 0; come.size() < kTotal;) {
          const auto rest = std::span(all).subspan(sent);
          sent += writer.put(rest.first(std::min(put_bytes, rest.size())));
          writer.publish();
          std::vector<std::byte> part(get_bytes);
          part.resize(reader.get(part));
          reader.publish();
          come.insert(come.end(), part.begin(), part.end());
        }
        REQUIRE(come == all);
        REQUIRE(reader.available() == 0);
        REQUIRE(writer.room() == ring_bytes);
      }
    }
  }
}

TEST_CASE("neither end sees what the other has not published") {
  Ring ring(10);
  auto writer = ring.writer();
  auto reader = ring.reader();
  const auto bytes = counted(10);
  REQUIRE(writer.put(bytes) == 10);
  REQUIRE(reader.available() == 0);
  writer.publish();
  REQUIRE(reader.available() == 10);
  REQUIRE(writer.put(bytes) == 0);
  std::vector<std::byte> out(4);
  REQUIRE(reader.get(out) == 4);
  REQUIRE(writer.room() == 0);
  reader.publish();
  REQUIRE(writer.room() == 4);
}

TEST_CASE("positions that cannot be true are noticed and never lead outside the ring") {
  Ring ring(16);
  auto writer = ring.writer();
  auto reader = ring.reader();
  REQUIRE(reader.plausible());
  ring.positions.written = 17;
  REQUIRE_FALSE(reader.plausible());
  REQUIRE(reader.available() == 16);
  ring.positions.read = 5;
  REQUIRE(writer.room() == 0);
  REQUIRE(writer.put(counted(4)) == 0);
}

TEST_CASE("two threads can use the ends at once") {
  constexpr std::size_t kTotal = 1 << 20;
  Ring ring(1000);
  std::thread sender([&] {
    auto writer = ring.writer();
    const auto all = counted(kTotal);
    for (std::size_t sent = 0; sent < kTotal;) {
      const auto rest = std::span(all).subspan(sent);
      sent += writer.put(rest.first(std::min<std::size_t>(rest.size(), 300)));
      writer.publish();
    }
  });
  auto reader = ring.reader();
  std::vector<std::byte> come(kTotal);
  for (std::size_t got = 0; got < kTotal;) {
    got += reader.get(std::span(come).subspan(got));
    reader.publish();
  }
  sender.join();
  REQUIRE(come == counted(kTotal));
}

}  // namespace dist
