// SPDX-License-Identifier: Apache-2.0
#include "libdist/compress/codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "libdist/wire/little_endian.h"
#include "tests/support/catch.h"

namespace dist {
namespace {

constexpr std::array kMethods = {Compression::f16, Compression::bf16, Compression::int8,
                                 Compression::top_k, Compression::one_bit};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<std::byte> encoded(const Codec& codec, const std::vector<float>& values) {
  std::vector<std::byte> out(codec.encoded_bytes(Elems(values.size())).value);
  codec.encode(values, out);
  return out;
}

std::vector<float> there_and_back(const Codec& codec, const std::vector<float>& values) {
  std::vector<float> back(values.size(), 99);
  REQUIRE_OK(codec.decode(encoded(codec, values), back));
  return back;
}

// Of all sizes and both signs, the same every time.
std::vector<float> mixed(std::size_t elems) {
  std::vector<float> values;
  std::uint32_t state = 12345;
  for (std::size_t i = 0; i < elems; ++i) {
    state = state * 1664525 + 1013904223;
    const auto size = static_cast<float>(state >> 8) / (1 << 24);
    values.push_back((state & 1 ? -size : size) * static_cast<float>(1 + i % 7));
  }
  return values;
}

TEST_CASE("methods by name") {
  for (const Compression method : kMethods) {
    CHECK(compression_named(name_of(method)).value() == method);
  }
  CHECK(compression_named("none").value() == Compression::none);
  const auto unknown = compression_named("zip");
  CHECK(unknown.status().code() == ErrorCode::invalid_argument);
  CHECK(unknown.status().message().find("top-k") != std::string::npos);
}

TEST_CASE("sizes follow from the number of values alone") {
  CHECK(make_codec(Compression::f16, 1)->encoded_bytes(Elems(1001)) == 2002_B);
  CHECK(make_codec(Compression::bf16, 1)->encoded_bytes(Elems(0)) == 0_B);
  CHECK(make_codec(Compression::int8, 1)->encoded_bytes(Elems(256)) == 260_B);
  CHECK(make_codec(Compression::int8, 1)->encoded_bytes(Elems(257)) == 265_B);
  CHECK(make_codec(Compression::top_k, 0.01)->encoded_bytes(Elems(1001)) == 88_B);
  CHECK(make_codec(Compression::top_k, 0.01)->encoded_bytes(Elems(3)) == 8_B);
  CHECK(make_codec(Compression::top_k, 0.01)->encoded_bytes(Elems(0)) == 0_B);
  CHECK(make_codec(Compression::one_bit, 1)->encoded_bytes(Elems(1024)) == 136_B);
  CHECK(make_codec(Compression::one_bit, 1)->encoded_bytes(Elems(1033)) == 136_B + 10_B);
}

TEST_CASE("every method takes every length, and what it writes it reads the same again") {
  for (const Compression method : kMethods) {
    INFO(name_of(method));
    const auto codec = make_codec(method, 0.1);
    for (const std::size_t elems : {0, 1, 2, 7, 8, 9, 255, 256, 257, 1023, 1024, 1031, 5003}) {
      const auto once = there_and_back(*codec, mixed(elems));
      const auto twice = there_and_back(*codec, once);
      REQUIRE(once.size() == elems);
      for (std::size_t i = 0; i < elems; ++i) {
        INFO(i << " of " << elems);
        REQUIRE(twice[i] == test::Approx(once[i]).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("halves are rounded to nearest") {
  const std::vector<float> values = {1, -2.5, 0, 65504, 1 + 1.0f / 1024, 1 + 1.0f / 4096, 3e-8f};
  const auto f16 = there_and_back(*make_codec(Compression::f16, 1), values);
  CHECK(f16 == std::vector<float>{1, -2.5, 0, 65504, 1 + 1.0f / 1024, 1, 0x1p-24f});
  const auto bf16 = there_and_back(*make_codec(Compression::bf16, 1), values);
  CHECK(bf16[1] == -2.5f);
  CHECK(bf16[3] == 65536);
  CHECK(bf16[4] == 1);
  CHECK(there_and_back(*make_codec(Compression::f16, 1), {1e6f})[0] == kInfinity);
}

TEST_CASE("int8 errs by at most half a step of its block") {
  const auto codec = make_codec(Compression::int8, 1);
  const auto values = mixed(1000);
  const auto back = there_and_back(*codec, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t block = i / 256 * 256;
    float largest = 0;
    for (std::size_t k = block; k < std::min(block + 256, values.size()); ++k) {
      largest = std::max(largest, std::abs(values[k]));
    }
    INFO(i);
    REQUIRE(std::abs(back[i] - values[i]) <= largest / 127 * 0.5f * 1.0001f);
  }
  CHECK(there_and_back(*codec, {127, -127, 3, 0.4f, 0.6f}) ==
        std::vector<float>{127, -127, 3, 0, 1});
  CHECK(there_and_back(*codec, {0, 0, 0}) == std::vector<float>{0, 0, 0});
  CHECK(there_and_back(*codec, {1e-40f, -1e-40f}) == std::vector<float>{0, 0});
}

TEST_CASE("top-k sends the largest values, of equal ones the first") {
  const auto codec = make_codec(Compression::top_k, 0.4);
  CHECK(there_and_back(*codec, {1, -5, 2, 5, 0.5f}) == std::vector<float>{0, -5, 0, 5, 0});
  CHECK(there_and_back(*codec, {3, 3, 3, 3, 3}) == std::vector<float>{3, 3, 0, 0, 0});
  CHECK(there_and_back(*codec, {0, 0, 0, 0, 0}) == std::vector<float>{0, 0, 0, 0, 0});
  CHECK(there_and_back(*make_codec(Compression::top_k, 1), {1, 2}) == std::vector<float>{1, 2});
}

TEST_CASE("top-k refuses places that no encoder writes") {
  const auto codec = make_codec(Compression::top_k, 0.5);
  std::vector<float> values(4);
  std::vector<std::byte> bytes = encoded(*codec, {0, 1, 0, 2});
  REQUIRE_OK(codec->decode(bytes, values));
  wire::store(std::uint32_t{4}, bytes.data() + 8);
  CHECK(codec->decode(bytes, values).code() == ErrorCode::protocol);
  wire::store(std::uint32_t{1}, bytes.data() + 8);  // twice the same
  CHECK(codec->decode(bytes, values).code() == ErrorCode::protocol);
}

TEST_CASE("one bit keeps the sum and the signs") {
  const auto codec = make_codec(Compression::one_bit, 1);
  CHECK(there_and_back(*codec, {1, 3, -2, -6, 0}) ==
        std::vector<float>{4.0f / 3, 4.0f / 3, -4, -4, 4.0f / 3});
  const auto values = mixed(2048);
  const auto back = there_and_back(*codec, values);
  CHECK(std::accumulate(back.begin(), back.end(), 0.0) ==
        test::Approx(std::accumulate(values.begin(), values.end(), 0.0)).margin(1e-2));
}

TEST_CASE("what is not finite is not hidden") {
  for (const Compression method : kMethods) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
      INFO(name_of(method) << " " << bad);
      auto values = mixed(300);
      values[77] = bad;
      CHECK_FALSE(std::isfinite(there_and_back(*make_codec(method, 0.01), values)[77]));
    }
  }
}

// Bytes are the same on every machine and in every version.
TEST_CASE("golden bytes") {
  const std::vector<float> values = {1, -2, 0.5f};
  const auto bytes = [&](Compression method) {
    std::string text;
    for (const std::byte b : encoded(*make_codec(method, 0.5), values)) {
      constexpr char kDigits[] = "0123456789abcdef";
      text += kDigits[static_cast<int>(b) >> 4];
      text += kDigits[static_cast<int>(b) & 15];
    }
    return text;
  };
  CHECK(bytes(Compression::f16) == "003c00c00038");
  CHECK(bytes(Compression::bf16) == "803f00c0003f");
  CHECK(bytes(Compression::int8) ==
        "0402813c"
        "408120");
  CHECK(bytes(Compression::top_k) ==
        "000000000000803f"
        "01000000000000c0");
  CHECK(bytes(Compression::one_bit) ==
        "000000c0"
        "0000403f"
        "05");
}

}  // namespace
}  // namespace dist
