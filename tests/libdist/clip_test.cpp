// SPDX-License-Identifier: Apache-2.0
#include "libdist/clip.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using test::Approx;

TEST_CASE("the factor is PyTorch's, and 1 for what is short enough") {
  REQUIRE(clip_factor(0, 1e9) == 1);
  REQUIRE(clip_factor(2, 1.5) == 1);
  REQUIRE(clip_factor(2, 0) == 1);
  REQUIRE(clip_factor(2, 8) == 2 / (8 + 1e-6));
}

TEST_CASE("a gradient is clipped as one vector where it lies") {
  std::vector<float> floats = {3, 0, -4};
  clip(std::as_writable_bytes(std::span(floats)), DType::f32, 10);
  REQUIRE(floats == std::vector<float>{3, 0, -4});
  clip(std::as_writable_bytes(std::span(floats)), DType::f32, 0);
  REQUIRE(floats == std::vector<float>{3, 0, -4});
  clip(std::as_writable_bytes(std::span(floats)), DType::f32, 1);
  REQUIRE(floats[0] == Approx(0.6).epsilon(1e-6));
  REQUIRE(floats[2] == Approx(-0.8).epsilon(1e-6));
  std::vector<double> doubles(1000, 1);
  clip(std::as_writable_bytes(std::span(doubles)), DType::f64, 1);
  for (const double value : doubles) REQUIRE(value == 1 / (std::sqrt(1000) + 1e-6));
}

}  // namespace
