// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/mapping.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "tests/support/catch.h"
#include "tests/support/processes.h"

namespace {

using dist::Bytes;
using dist::Mapping;
using dist::MappingAddress;

void fill(const Mapping& mapping, int value) {
  std::fill(mapping.bytes().begin(), mapping.bytes().end(), static_cast<std::byte>(value));
}

bool holds(const Mapping& mapping, int value) {
  return std::all_of(mapping.bytes().begin(), mapping.bytes().end(),
                     [&](std::byte b) { return b == static_cast<std::byte>(value); });
}

TEST_CASE("mapped memory is zeroed, has the size asked for and stays where it is when moved") {
  for (const bool shareable : {false, true}) {
    for (const std::uint64_t size : {1u, 4096u, 5000u, 3u << 20}) {
      auto made = shareable ? Mapping::map_shareable(Bytes(size)) : Mapping::map(Bytes(size));
      REQUIRE(made.ok());
      CHECK(made->bytes().size() == size);
      CHECK(made->shareable() == shareable);
      CHECK(holds(*made, 0));
      fill(*made, 7);
      const auto* before = made->bytes().data();
      const Mapping moved = *std::move(made);
      CHECK(moved.bytes().data() == before);
      CHECK(holds(moved, 7));
    }
  }
  CHECK(Mapping::map(Bytes(0))->bytes().empty());
  CHECK(Mapping::map_shareable(Bytes(0))->bytes().empty());
  CHECK(Mapping::map_shareable(Bytes(1ull << 60)).status().code() == dist::ErrorCode::resource);
}

TEST_CASE("an attached mapping is the same memory, in this process and in another") {
  auto owner = Mapping::map_shareable(Bytes(10000)).value();
  fill(owner, 1);
  {
    const auto second = Mapping::attach(owner.address()).value();
    CHECK(second.bytes().size() == 10000);
    CHECK(holds(second, 1));
    fill(second, 2);
  }
  CHECK(holds(owner, 2));
  const auto address = owner.address();
  const auto codes =
      dist::test::run_processes(1, [&](int) { fill(Mapping::attach(address).value(), 3); });
  CHECK(codes == std::vector<int>{0});
  CHECK(holds(owner, 3));
}

TEST_CASE("attached memory outlives its owner") {
  Mapping attached;
  {
    auto owner = Mapping::map_shareable(Bytes(100)).value();
    fill(owner, 5);
    attached = Mapping::attach(owner.address()).value();
  }
  CHECK(holds(attached, 5));
}

TEST_CASE("what cannot be reached is refused with the path and the reason") {
  auto owner = Mapping::map_shareable(Bytes(100)).value();
  auto elsewhere = owner.address();
  elsewhere.inode += 1;
  const auto other = Mapping::attach(elsewhere).status();
  CHECK(other.code() == dist::ErrorCode::unavailable);
  CHECK(other.message().find("another pid namespace") != std::string::npos);
  auto longer = owner.address();
  longer.bytes = 1 << 20;
  CHECK(Mapping::attach(longer).status().code() == dist::ErrorCode::unavailable);
  auto closed = owner.address();
  closed.file = 987654;
  const auto missing = Mapping::attach(closed).status();
  CHECK(missing.code() == dist::ErrorCode::unavailable);
  CHECK(missing.message().find("/fd/987654") != std::string::npos);
}

TEST_CASE("a mapping shows another one at its own addresses, and takes the contents home") {
  auto mine = Mapping::map_shareable(Bytes(9000)).value();
  auto theirs = Mapping::map_shareable(Bytes(9000)).value();
  fill(mine, 1);
  fill(theirs, 2);
  const auto* before = mine.bytes().data();
  REQUIRE(mine.show(theirs).ok());
  CHECK(mine.bytes().data() == before);
  CHECK(holds(mine, 2));
  CHECK(holds(Mapping::attach(mine.address()).value(), 0));  // given back
  fill(mine, 3);
  CHECK(holds(theirs, 3));
  REQUIRE(mine.show_own().ok());
  CHECK(mine.bytes().data() == before);
  CHECK(holds(mine, 3));
  fill(mine, 4);
  CHECK(holds(theirs, 3));
  REQUIRE(mine.show_own().ok());  // nothing to do
  CHECK(holds(mine, 4));
}

}  // namespace
