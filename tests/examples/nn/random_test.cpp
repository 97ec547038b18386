// SPDX-License-Identifier: Apache-2.0
// Pins the generator: goldens, initial values and data of every backend rest on these bits.
#include "examples/nn/random.h"

#include "tests/support/catch.h"

using namespace nn;

TEST_CASE("published vectors: FNV-1a and splitmix64") {
  CHECK(stream_of("") == 0xcbf29ce484222325);
  CHECK(stream_of("a") == 0xaf63dc4c8601ec8c);
  CHECK(stream_of("foobar") == 0x85944171f73967e8);
  // splitmix64 with state 0 begins so.
  CHECK(mix64(0x9e3779b97f4a7c15) == 0xe220a8397b1dcdaf);
  CHECK(mix64(2 * 0x9e3779b97f4a7c15) == 0x6e789e6aa1b965f4);
}

TEST_CASE("pinned values, equal in make_goldens.py") {
  CHECK(random_bits(1, stream_of("conv1.weight"), 0) == 0xd023ca781c75e16b);
  CHECK(random_bits(2, 3, 1000000007) == 0xf0466f19e5c38627);
  CHECK(random_uniform(1, 2, 3) == 0.9188633445488673);
  CHECK(random_normal(1, 2, 3) == dist::test::Approx(1.1158092922062928).epsilon(1e-15));
}

TEST_CASE("uniform lies in [0, 1) and fills it evenly") {
  int counts[10] = {};
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const double u = random_uniform(7, 8, i);
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    ++counts[static_cast<int>(u * 10)];
  }
  for (const int count : counts) {
    CHECK(count > 9500);  // five standard deviations
    CHECK(count < 10500);
  }
}

TEST_CASE("normal numbers are finite, with mean 0 and variance 1") {
  double sum = 0;
  double squares = 0;
  constexpr int kCount = 100000;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const double x = random_normal(7, 8, i);
    REQUIRE(std::isfinite(x));
    sum += x;
    squares += x * x;
  }
  CHECK(std::abs(sum / kCount) < 0.016);
  CHECK(std::abs(squares / kCount - 1) < 0.023);
}

TEST_CASE("seeds, streams and indices are different axes") {
  CHECK(random_bits(1, 2, 3) != random_bits(2, 1, 3));
  CHECK(random_bits(1, 2, 3) != random_bits(1, 3, 2));
  CHECK(random_bits(0, 0, 1) != random_bits(0, 1, 0));
}
