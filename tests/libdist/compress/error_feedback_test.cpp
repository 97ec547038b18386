// SPDX-License-Identifier: Apache-2.0
#include "libdist/compress/error_feedback.h"

#include <algorithm>

#include "tests/support/catch.h"

namespace dist {
namespace {

TEST_CASE("a float an element, at first 0, for the methods that lose much") {
  const auto arena = Arena::create({{"a", Elems(3)}, {"b", Elems(100), DType::f32}}).value();
  for (const Compression method : {Compression::int8, Compression::top_k, Compression::one_bit}) {
    INFO(name_of(method));
    const auto feedback = ErrorFeedback::make(method, arena).value();
    const auto first = feedback.of(arena.range(0));
    const auto second = feedback.of(arena.range(1));
    REQUIRE(first.size() == 3);
    REQUIRE(second.size() == 100);
    CHECK(second.data() == first.data() + arena.range(1).begin);
    CHECK(std::count(second.begin(), second.end(), 0.0f) == 100);
    second[7] = 1;
    CHECK(feedback.of({arena.range(1).begin + 7, arena.range(1).end}).front() == 1);
  }
}

TEST_CASE("nothing for the others") {
  const auto arena = Arena::create({{"a", Elems(3)}}).value();
  for (const Compression method : {Compression::none, Compression::f16, Compression::bf16}) {
    CHECK(ErrorFeedback::make(method, arena).value().of(arena.range(0)).empty());
  }
  CHECK(ErrorFeedback().of(arena.range(0)).empty());
}

}  // namespace
}  // namespace dist
