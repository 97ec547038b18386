// SPDX-License-Identifier: Apache-2.0
// The frame header: its bytes, its checks and their order, and what FORMAT.md says about it.
#include "libdist/wire/frame.h"

#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <string>

#include "libdist/wire/crc32c.h"
#include "libdist/wire/handshake.h"
#include "libdist/wire/little_endian.h"
#include "tests/libdist/wire/hex.h"
#include "tests/support/catch.h"

using namespace dist::wire;
using dist::test::from_hex;
using dist::test::to_hex;

namespace {

// Made by an independent program from the table in FORMAT.md.
constexpr std::string_view kGolden =
    "4449535401010201887766554433221103000000050000000900000000000000"
    "e8030400000000000000040000000000e803000000000000000000004d0d9501";

using Header = std::array<std::byte, kHeaderBytes>;

FrameHeader sample() {
  return {.type = FrameType::data,
          .channel = 2,
          .flags = kLastFrame,
          .job = 0x1122334455667788,
          .epoch = 3,
          .source = 5,
          .sequence = 9,
          .body_bytes = 1000,
          .message_bytes = kFrameBodyBytes + 1000,
          .offset_bytes = kFrameBodyBytes};
}

FrameExpectation expectation(const FrameHeader& h) {
  return {.type = h.type,
          .channel = h.channel,
          .job = h.job,
          .epoch = h.epoch,
          .source = h.source,
          .sequence = h.sequence,
          .message_bytes = h.message_bytes,
          .offset_bytes = h.offset_bytes};
}

Header encoded(const FrameHeader& header) {
  Header bytes;
  encode_header(header, bytes);
  return bytes;
}

FrameError check(const Header& bytes, const FrameExpectation& expected) {
  FrameHeader ignored;
  return decode_header(bytes, expected, &ignored);
}

// A header that differs from the sample in one field and has a good checksum.
template <typename T>
FrameError check_with(std::size_t at, T value) {
  Header bytes = encoded(sample());
  store(value, bytes.data() + at);
  store(crc32c(std::span(bytes).first(60)), bytes.data() + 60);
  return check(bytes, expectation(sample()));
}

std::map<std::string, std::uint64_t> constants_of_format() {
  std::ifstream file(DIST_SOURCE_DIR "/libdist/wire/FORMAT.md");
  std::map<std::string, std::uint64_t> constants;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| `k", 0) != 0) continue;
    std::istringstream cells(line);
    std::string bar;
    std::string name;
    std::string value;
    cells >> bar >> name >> bar >> value;
    constants[name.substr(1, name.size() - 2)] = std::stoull(value, nullptr, 0);
  }
  return constants;
}

}  // namespace

TEST_CASE("a frame header has its golden bytes") {
  CHECK(to_hex(encoded(sample())) == kGolden);
  FrameHeader read;
  REQUIRE(decode_header(from_hex(kGolden), expectation(sample()), &read) == FrameError::none);
  CHECK(read == sample());
}

TEST_CASE("every flipped bit of a header is found") {
  const Header good = encoded(sample());
  for (std::size_t bit = 0; bit < kHeaderBytes * 8; ++bit) {
    Header bytes = good;
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    INFO("bit " << bit);
    CHECK(check(bytes, expectation(sample())) == FrameError::header_checksum);
  }
}

TEST_CASE("every pair of flipped bits of a header is found") {
  const Header good = encoded(sample());
  std::size_t missed = 0;
  for (std::size_t a = 0; a < kHeaderBytes * 8; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      Header bytes = good;
      bytes[a / 8] ^= static_cast<std::byte>(1u << (a % 8));
      bytes[b / 8] ^= static_cast<std::byte>(1u << (b % 8));
      missed += check(bytes, expectation(sample())) == FrameError::none ? 1 : 0;
    }
  }
  CHECK(missed == 0);
}

TEST_CASE("each field of a header is checked") {
  CHECK(check_with<std::uint32_t>(0, 0x20544547) == FrameError::magic);
  CHECK(check_with<std::uint8_t>(4, 2) == FrameError::version);
  CHECK(check_with<std::uint8_t>(5, 2) == FrameError::type);
  CHECK(check_with<std::uint8_t>(6, 0) == FrameError::channel);
  CHECK(check_with<std::uint8_t>(7, 0) == FrameError::flags);
  CHECK(check_with<std::uint8_t>(7, 3) == FrameError::flags);
  CHECK(check_with<std::uint8_t>(7, 5) == FrameError::flags);
  CHECK(check_with<std::uint64_t>(8, 1) == FrameError::job);
  CHECK(check_with<std::uint32_t>(16, 4) == FrameError::epoch);
  CHECK(check_with<std::uint32_t>(20, 6) == FrameError::source);
  CHECK(check_with<std::uint64_t>(24, 8) == FrameError::sequence);
  CHECK(check_with<std::uint64_t>(32, kFrameBodyBytes + 1001) == FrameError::message_bytes);
  CHECK(check_with<std::uint64_t>(40, 0) == FrameError::offset);
  CHECK(check_with<std::uint32_t>(48, 999) == FrameError::body_bounds);
  CHECK(check_with<std::uint64_t>(52, 1) == FrameError::flags);
}

TEST_CASE("lengths that would wrap are refused") {
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  CHECK(check_with<std::uint64_t>(40, kMost) == FrameError::body_bounds);
  CHECK(check_with<std::uint64_t>(40, kMost - 500) == FrameError::body_bounds);
  CHECK(check_with<std::uint64_t>(32, 0) == FrameError::body_bounds);
  CHECK(check_with<std::uint32_t>(48, 0xffffffff) == FrameError::body_bounds);
  CHECK(check_with<std::uint32_t>(48, kMaxBodyBytes + 1) == FrameError::body_bounds);
}

TEST_CASE("a short header is refused, and only its own bytes are read") {
  const Header bytes = encoded(sample());
  FrameHeader ignored;
  for (std::size_t length = 0; length < kHeaderBytes; ++length) {
    const std::vector<std::byte> cut(bytes.begin(),
                                     bytes.begin() + static_cast<std::ptrdiff_t>(length));
    CHECK(decode_header(cut, expectation(sample()), &ignored) == FrameError::truncated);
  }
}

TEST_CASE("numbers near 2^32 and 2^63 pass") {
  FrameHeader header = sample();
  header.job = ~std::uint64_t{0};
  header.epoch = ~std::uint32_t{0};
  header.sequence = std::uint64_t{1} << 63;
  header.message_bytes = (std::uint64_t{1} << 40) + 1;
  header.offset_bytes = std::uint64_t{1} << 40;
  header.body_bytes = 1;
  CHECK(check(encoded(header), expectation(header)) == FrameError::none);
}

TEST_CASE("a message is cut at multiples of kFrameBodyBytes") {
  CHECK(body_bytes_at(0, 0) == 0);
  CHECK(body_bytes_at(kFrameBodyBytes, 0) == kFrameBodyBytes);
  CHECK(body_bytes_at(kFrameBodyBytes + 1, 0) == kFrameBodyBytes);
  CHECK(body_bytes_at(kFrameBodyBytes + 1, kFrameBodyBytes) == 1);
  CHECK(body_bytes_at(std::uint64_t{3} << 32, 0) == kFrameBodyBytes);
}

TEST_CASE("a trailer is the little-endian checksum") {
  std::array<std::byte, kTrailerBytes> bytes{};
  encode_trailer(0x11223344, bytes);
  CHECK(to_hex(bytes) == "44332211");
  CHECK(decode_trailer(bytes) == 0x11223344);
}

TEST_CASE("FORMAT.md names the constants of the code") {
  const std::map<std::string, std::uint64_t> expected = {
      {"kMagic", kMagic},
      {"kVersion", kVersion},
      {"kHeaderBytes", kHeaderBytes},
      {"kTrailerBytes", kTrailerBytes},
      {"kMaxBodyBytes", kMaxBodyBytes},
      {"kFrameBodyBytes", kFrameBodyBytes},
      {"kChallengeBytes", kChallengeBytes},
      {"kHelloBytes", kHelloBytes},
      {"kAnswerBytes", kAnswerBytes},
      {"kNonceBytes", kNonceBytes},
      {"kMacBytes", kMacBytes},
      {"kLeastSecretBytes", kLeastSecretBytes},
  };
  CHECK(constants_of_format() == expected);
}
