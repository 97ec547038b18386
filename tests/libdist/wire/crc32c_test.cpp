// SPDX-License-Identifier: Apache-2.0
// CRC32C against published values, and the instruction against the table.
#include "libdist/wire/crc32c.h"

#include <algorithm>
#include <random>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

using dist::wire::crc32c;
using dist::wire::crc32c_by_table;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<std::byte> random_bytes(std::size_t count) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random() & 0xff);
  return bytes;
}

}  // namespace

TEST_CASE("crc32c has the values of RFC 3720") {
  CHECK(crc32c({}) == 0);
  CHECK(crc32c(bytes_of("123456789")) == 0xe3069283u);
  std::vector<std::byte> bytes(32, std::byte{0});
  CHECK(crc32c(bytes) == 0x8a9136aau);
  std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
  CHECK(crc32c(bytes) == 0x62a8ab43u);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  CHECK(crc32c(bytes) == 0x46dd794eu);
  CHECK(crc32c_by_table(bytes) == 0x46dd794eu);
}

TEST_CASE("crc32c by instruction equals the table at every length and alignment") {
  const auto bytes = random_bytes(20000);
  const std::span whole(bytes);
  std::vector<std::size_t> lengths = {3071, 3072, 3073, 4096, 6143, 6144, 6145, 9216, 16384};
  for (std::size_t length = 0; length < 300; ++length) lengths.push_back(length);
  for (std::size_t length = 1020; length < 1600; ++length) lengths.push_back(length);
  std::size_t different = 0;
  for (const std::size_t length : lengths) {
    for (std::size_t start = 0; start < 9; ++start) {
      const auto part = whole.subspan(start, length);
      different += crc32c(part, 0x1234567u) != crc32c_by_table(part, 0x1234567u) ? 1 : 0;
    }
  }
  CHECK(different == 0);
}

TEST_CASE("crc32c of two parts is that of the whole") {
  const auto bytes = random_bytes(10000);
  const std::span whole(bytes);
  const auto expected = crc32c(whole);
  for (const std::size_t cut : {0, 1, 7, 8, 3071, 3072, 5000, 9999, 10000}) {
    CHECK(crc32c(whole.subspan(cut), crc32c(whole.first(cut))) == expected);
  }
}
