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

TEST_CASE("gaps between parameters are owed nothing") {
  const auto arena = Arena::create({{"a", Elems(3)}, {"b", Elems(20)}}).value();
  const Range whole{0, arena.elems().value};
  const auto feedback = ErrorFeedback::make(Compression::one_bit, arena).value();
  std::ranges::fill(feedback.of(whole), 1.0f);
  feedback.clear_gaps({2, 17});
  const auto all = feedback.of(whole);
  CHECK(std::count(all.begin(), all.end(), 0.0f) == 13);
  CHECK((all[2] == 1 && all[3] == 0 && all[15] == 0 && all[16] == 1 && all[36] == 1));
  feedback.clear_gaps(whole);
  CHECK(std::count(all.begin(), all.end(), 1.0f) == 23);
  ErrorFeedback().clear_gaps(whole);
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
