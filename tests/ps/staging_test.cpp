// SPDX-License-Identifier: Apache-2.0
#include "ps/staging.h"

#include "tests/support/catch.h"

namespace {

using namespace dist;
using ps::Staging;

TEST_CASE("a worker's quota bounds what it borrows, not what others borrow") {
  Staging staging({.buffer = 100_B, .quota_per_worker = 250_B, .workers = 2, .alias_window = {}});
  std::vector<Staging::Buffer> held;
  for (int i = 0; i < 3; ++i) {
    auto lent = staging.lend(0).value();
    REQUIRE(lent.has_value());
    REQUIRE(lent->bytes().size() == 100);
    held.push_back(std::move(*lent));
  }
  REQUIRE(held[0].bytes().data() != held[1].bytes().data());
  REQUIRE(!staging.lend(0).value().has_value());
  REQUIRE(staging.lend(1).value().has_value());
  held.pop_back();
  REQUIRE(staging.lend(0).value().has_value());
}

TEST_CASE("buffers are made when first needed and used again") {
  Staging staging({.buffer = 100_B, .quota_per_worker = 1_MiB, .workers = 1, .alias_window = {}});
  REQUIRE(staging.made() == 0);
  for (int i = 0; i < 10; ++i) {
    auto one = staging.lend(0).value();
    auto two = staging.lend(0).value();
    REQUIRE((one && two));
  }
  REQUIRE(staging.made() == 2);
}

TEST_CASE("a quota below one buffer still lends one") {
  Staging staging({.buffer = 100_B, .quota_per_worker = 0_B, .workers = 1, .alias_window = {}});
  auto one = staging.lend(0).value();
  REQUIRE(one.has_value());
  REQUIRE(!staging.lend(0).value().has_value());
}

TEST_CASE("a buffer that is replaced goes back") {
  Staging staging({.buffer = 8_B, .quota_per_worker = 8_B, .workers = 1, .alias_window = {}});
  Staging::Buffer buffer = *staging.lend(0).value();
  buffer = {};
  REQUIRE(staging.lend(0).value().has_value());
}

TEST_CASE("aliased buffers share one memory and keep the quota") {
  Staging staging(
      {.buffer = 1_MiB, .quota_per_worker = 2_MiB, .workers = 3, .alias_window = 64_KiB});
  auto one = staging.lend(0).value();
  auto two = staging.lend(0).value();
  auto other = staging.lend(2).value();
  REQUIRE((one && two && other));
  REQUIRE(!staging.lend(0).value().has_value());
  REQUIRE(one->bytes().data() == other->bytes().data());
  REQUIRE(one->bytes().size() == (1_MiB).value);
  REQUIRE(staging.made() == 1);
  one->bytes()[0] = std::byte{42};
  REQUIRE(one->bytes()[(64_KiB).value] == std::byte{42});
}

}  // namespace
