// SPDX-License-Identifier: Apache-2.0
// Which files may hold the secret, and what a made one looks like.
#include "libdist/transport/secret_file.h"

#include <fcntl.h>

#include <cstring>

#include "tests/libdist/transport/tcp_support.h"
#include "tests/support/catch.h"

using namespace dist;
using namespace dist::test;

namespace {

std::string refusal(const std::string& path) {
  const auto secret = read_secret_file(AT_FDCWD, path);
  return secret.ok() ? "read" : secret.status().message();
}

}  // namespace

TEST_CASE("a private file of 16 bytes or more is a secret") {
  const PrivateDirectory directory;
  write_file(directory.file("s"), "0123456789abcdef");
  const auto secret = read_secret_file(AT_FDCWD, directory.file("s"));
  REQUIRE_OK(secret);
  REQUIRE(secret->bytes().size() == 16);
  CHECK(std::memcmp(secret->bytes().data(), "0123456789abcdef", 16) == 0);
}

TEST_CASE("files that cannot hold a secret are refused with a reason") {
  const PrivateDirectory directory;
  write_file(directory.file("readable"), "0123456789abcdef", 0640);
  write_file(directory.file("writable"), "0123456789abcdef", 0602);
  write_file(directory.file("short"), "0123456789abcde");
  write_file(directory.file("long"), std::string(4097, 'x'));
  CHECK(contains(refusal(directory.file("readable")), "chmod 600"));
  CHECK(contains(refusal(directory.file("writable")), "chmod 600"));
  CHECK(contains(refusal(directory.file("short")), "holds 15 bytes"));
  CHECK(contains(refusal(directory.file("long")), "too many"));
  CHECK(contains(refusal(directory.path()), "not a regular file"));
  CHECK(contains(refusal(directory.file("none")), "cannot be opened"));
  for (const auto* name : {"readable", "short"}) {
    CHECK_FALSE(contains(refusal(directory.file(name)), "0123456789"));
  }
}

TEST_CASE("a made secret is private, random and never overwritten") {
  const PrivateDirectory place;
  const FileDescriptor directory(::open(place.path().c_str(), O_RDONLY | O_DIRECTORY));
  write_file(place.file("new.a"), "left by a crash");
  REQUIRE_OK(make_secret_file(directory.number(), "a"));
  REQUIRE_OK(make_secret_file(directory.number(), "b"));
  const auto first = read_secret_file(directory.number(), "a");
  const auto other = read_secret_file(directory.number(), "b");
  REQUIRE_OK(first);
  REQUIRE_OK(other);
  CHECK(first->bytes().size() == 32);
  CHECK(std::memcmp(first->bytes().data(), other->bytes().data(), 32) != 0);
  REQUIRE_OK(make_secret_file(directory.number(), "a"));
  const auto again = read_secret_file(directory.number(), "a");
  REQUIRE_OK(again);
  CHECK(std::memcmp(first->bytes().data(), again->bytes().data(), 32) == 0);
  CHECK_FALSE(std::filesystem::exists(place.file("new.a")));
}
