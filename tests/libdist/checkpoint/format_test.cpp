// SPDX-License-Identifier: Apache-2.0
// The bytes of FORMAT.md, pinned.
#include "libdist/checkpoint/format.h"

#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::checkpoint;

std::string hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const auto byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

Manifest sample() {
  return {7,
          DType::f32,
          "momentum",
          {{"conv 1/weights", 1728}, {"bias", 0}},
          {{"shard-0", 4096, 0xdeadbeef, true}, {"weights.safetensors", 12, 1, false}},
          {{"seed", "1"}, {"note", "two words"}, {"empty", ""}}};
}

const std::string kText =
    "libdist checkpoint 1\nstep 7\ndtype f32\nrule momentum\nparameter 1728 conv 1/weights\n"
    "parameter 0 bias\nshard 4096 deadbeef shard-0\nfile 12 00000001 weights.safetensors\n"
    "value empty \nvalue note two words\nvalue seed 1\nend 2805de3a\n";

TEST_CASE("records and trailer are little-endian, field by field") {
  const Record record{1, 2, 3, 4, 5, 0x0102030405060708, 0xa1b2c3d4};
  CHECK(hex(encode(std::span(&record, 1))) ==
        "0100000002000000030000000000000004000000000000000500000000000000"
        "0807060504030201d4c3b2a100000000");
  CHECK(decode_records(encode(std::span(&record, 1))) == std::vector{record});
  const Trailer trailer{9, 2, 0x11223344};
  const auto bytes = encode(trailer);
  CHECK(hex(bytes) == "0900000000000000020000000000000044332211010000004443545348415244");
  CHECK(decode_trailer(bytes).value() == trailer);
}

TEST_CASE("a trailer of something else or another version is refused") {
  auto bytes = encode(Trailer{9, 2, 3});
  bytes[31] = std::byte{0};
  CHECK(decode_trailer(bytes).status().message() == "not the end of a checkpoint's shard");
  bytes = encode(Trailer{9, 2, 3});
  bytes[20] = std::byte{2};
  CHECK(decode_trailer(bytes).status().message() == "shard of format 2, this library reads 1");
}

TEST_CASE("the manifest is text and comes back as it was") {
  CHECK(print(sample()).value() == kText);
  CHECK(parse_manifest(kText).value() == sample());
}

TEST_CASE("no changed, missing or added byte of a manifest goes unnoticed") {
  for (std::size_t at = 0; at < kText.size(); ++at) {
    auto changed = kText;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    INFO("byte " << at);
    CHECK_FALSE(parse_manifest(changed).ok());
    CHECK_FALSE(parse_manifest(kText.substr(0, at)).ok());
  }
  CHECK_FALSE(parse_manifest(kText + "\n").ok());
}

TEST_CASE("a well-sealed manifest with nonsense in it is refused") {
  for (const std::string name : {"a/b", ""}) {
    auto manifest = sample();
    manifest.files[0].name = name;
    CHECK(parse_manifest(print(manifest).value()).status().message().find("bad line") !=
          std::string::npos);
  }
}

TEST_CASE("names that would break a line are refused") {
  auto manifest = sample();
  manifest.parameters[0].name = "a\nb";
  CHECK_FALSE(print(manifest).ok());
  manifest = sample();
  manifest.values["two words"] = "1";
  CHECK_FALSE(print(manifest).ok());
}

}  // namespace
