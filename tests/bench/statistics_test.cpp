// SPDX-License-Identifier: Apache-2.0
#include "bench/statistics.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"

using dist::bench::mean;
using dist::bench::median;
using dist::bench::ratio_error;
using dist::bench::standard_error;
using dist::test::Approx;

TEST_CASE("the mean of nothing is 0, of values their average") {
  REQUIRE(mean({}) == 0);
  REQUIRE(mean(std::vector<double>{4}) == 4);
  REQUIRE(mean(std::vector<double>{1, 2, 6}) == 3);
}

TEST_CASE("the median is the middle value, or the mean of the middle two") {
  REQUIRE(median({3, 1, 2}) == 2);
  REQUIRE(median({4, 1, 3, 2}) == 2.5);
  REQUIRE(median({7}) == 7);
}

TEST_CASE("the standard error divides the sample deviation by the root of the count") {
  REQUIRE(standard_error({}) == 0);
  REQUIRE(standard_error(std::vector<double>{7}) == 0);
  // Deviations -2, 0, 2: variance 8 / 2 = 4, standard error sqrt(4 / 3).
  REQUIRE(standard_error(std::vector<double>{1, 3, 5}) == Approx(std::sqrt(4.0 / 3)));
  REQUIRE(standard_error(std::vector<double>{5, 5, 5, 5}) == 0);
}

TEST_CASE("relative errors of a ratio add in squares") {
  // 3 % and 4 % give 5 % of the ratio 2.
  REQUIRE(ratio_error(200, 6, 100, 4) == Approx(0.1));
  REQUIRE(ratio_error(0, 1, 100, 4) == 0);
  REQUIRE(ratio_error(100, 1, 0, 4) == 0);
}
