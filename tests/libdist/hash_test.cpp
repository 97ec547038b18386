// SPDX-License-Identifier: Apache-2.0
#include "libdist/hash.h"

#include "tests/support/catch.h"

namespace {

using dist::fnv1a;
using dist::LayoutHash;

// http://www.isthe.com/chongo/tech/comp/fnv/index.html
TEST_CASE("published vectors of FNV-1a, 64 bit") {
  CHECK(fnv1a("") == 0xcbf29ce484222325);
  CHECK(fnv1a("a") == 0xaf63dc4c8601ec8c);
  CHECK(fnv1a("foobar") == 0x85944171f73967e8);
  CHECK(fnv1a("bar", fnv1a("foo")) == fnv1a("foobar"));
}

TEST_CASE("the layout hash depends on every part and on its bounds") {
  const auto value = [](auto&&... text) {
    LayoutHash hash;
    (hash.text(text), ...);
    return hash.value();
  };
  CHECK(value("ab", "c") != value("a", "bc"));
  CHECK(value("ab") == value("ab"));
  CHECK(LayoutHash().real(0.1).value() != LayoutHash().real(0.2).value());
  CHECK(LayoutHash().number(1).number(2).value() != LayoutHash().number(2).number(1).value());
}

}  // namespace
