// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/curve.h"

#include <algorithm>

#include "tests/support/catch.h"

using namespace dist::bench;
using dist::test::Approx;

namespace {

// Losses 10, 9, .. 1 at 0.1, 0.2, .. 1 s.
std::vector<Lesson> falling() {
  std::vector<Lesson> lessons;
  for (int i = 1; i <= 10; ++i) lessons.push_back({0.1 * i, 11.0 - i, 0.1 * i});
  return lessons;
}

}  // namespace

TEST_CASE("lessons are put in the order in which they ended and averaged over a window") {
  auto lessons = falling();
  std::reverse(lessons.begin(), lessons.end());
  const Curve curve = smooth(lessons, 8, 4);
  REQUIRE(curve.size() == 7);
  CHECK(curve[0].samples == 32);
  CHECK(curve[0].seconds == Approx(0.4));
  CHECK(curve[0].loss == Approx(8.5));
  CHECK(curve[0].accuracy == Approx(0.25));
  CHECK(curve[6].samples == 80);
  CHECK(curve[6].loss == Approx(2.5));
  CHECK(smooth(lessons, 8, 11).empty());
}

TEST_CASE("when a loss is reached for the first time") {
  const Curve curve = smooth(falling(), 8, 1);
  CHECK(samples_to_reach(curve, 10).value() == 8);
  CHECK(samples_to_reach(curve, 5.5).value() == 48);
  CHECK(seconds_to_reach(curve, 5.5).value() == Approx(0.6));
  CHECK_FALSE(samples_to_reach(curve, 0.5).has_value());
  CHECK_FALSE(seconds_to_reach(Curve(), 1).has_value());
  auto lessons = falling();
  lessons[8].loss = 20;  // worse again later: the first time counts
  CHECK(samples_to_reach(smooth(lessons, 8, 1), 3).value() == 64);
}

TEST_CASE("the mean of several seeds goes as far as the shortest") {
  auto other = falling();
  for (Lesson& lesson : other) lesson.loss += 1;
  other.pop_back();
  const std::vector<Curve> curves = {smooth(falling(), 8, 1), smooth(other, 8, 1)};
  const Curve mean = mean_of(curves);
  REQUIRE(mean.size() == 9);
  CHECK(mean[0].loss == Approx(10.5));
  CHECK(mean[8].samples == 72);
  CHECK(mean[8].seconds == Approx(0.9));
  CHECK(mean_of({}).empty());
}

TEST_CASE("thinned out evenly, with the end") {
  const Curve curve = smooth(falling(), 8, 1);
  CHECK(thin_out(curve, 20).size() == 10);
  const Curve thin = thin_out(curve, 3);
  REQUIRE(thin.size() == 3);
  CHECK(thin[0].samples == 24);
  CHECK(thin[2].samples == 80);
}
