// SPDX-License-Identifier: Apache-2.0
// Samples: reproducible, the same however workers share them, in range, and learnable where
// promised.
#include "examples/data/synthetic.h"

#include <set>

#include "tests/support/catch.h"

using namespace nn;
using data::Kind;
using data::Samples;
using data::Synthetic;

namespace {

constexpr Shape kImage{3, 8, 6};

Samples join(std::vector<Samples> parts) {
  Samples all;
  for (const Samples& part : parts) {
    all.images.insert(all.images.end(), part.images.begin(), part.images.end());
    all.labels.insert(all.labels.end(), part.labels.begin(), part.labels.end());
  }
  return all;
}

}  // namespace

TEST_CASE("workers together see what one process sees") {
  const Kind kind = GENERATE(Kind::random, Kind::learnable);
  const Synthetic data(kind, kImage, 7, 3);
  for (const std::uint64_t step : {0, 5}) {
    const Samples whole = data.batch(step, 12);
    for (const std::int64_t workers : {2, 3, 4}) {
      std::vector<Samples> parts;
      for (std::int64_t w = 0; w < workers; ++w) {
        parts.push_back(data.batch(step, 12 / workers, w, workers));
      }
      const Samples joined = join(parts);
      CHECK(joined.images == whole.images);
      CHECK(joined.labels == whole.labels);
    }
  }
}

TEST_CASE("samples depend on seed and index, not on who asks") {
  const Synthetic data(Kind::random, kImage, 1000, 3);
  CHECK(data.batch(2, 4).images == Synthetic(Kind::random, kImage, 1000, 3).batch(2, 4).images);
  CHECK(data.batch(2, 4).images != data.batch(3, 4).images);
  CHECK(data.batch(2, 4).images != Synthetic(Kind::random, kImage, 1000, 4).batch(2, 4).images);
  std::vector<float> image(static_cast<std::size_t>(kImage.elements()));
  const std::int32_t label = data.sample(9, image);
  const Samples batch = data.batch(2, 4);  // samples 8 .. 11
  CHECK(batch.labels[1] == label);
  CHECK(std::equal(image.begin(), image.end(), batch.images.begin() + kImage.elements()));
}

TEST_CASE("pixels and labels stay in range and use it") {
  const Kind kind = GENERATE(Kind::random, Kind::learnable);
  const Samples batch = Synthetic(kind, kImage, 5, 1).batch(0, 200);
  float low = 1;
  float high = -1;
  for (const float pixel : batch.images) {
    low = std::min(low, pixel);
    high = std::max(high, pixel);
  }
  CHECK(low >= -1);
  CHECK(low < -0.8F);
  CHECK(high <= 1);
  CHECK(high > 0.8F);
  const std::set<std::int32_t> labels(batch.labels.begin(), batch.labels.end());
  CHECK(labels == std::set<std::int32_t>{0, 1, 2, 3, 4});
}

TEST_CASE("learnable: images of a class share a pattern, random ones do not") {
  constexpr std::int64_t kClasses = 4;
  const auto count = static_cast<std::size_t>(kImage.elements());
  const auto spread = [&](Kind kind) {  // of the class means; noise alone gives about 1/3 / 100
    const Samples batch = Synthetic(kind, kImage, kClasses, 1).batch(0, 400);
    std::vector<double> mean(count, 0.0);
    double members = 0;
    for (std::size_t n = 0; n < batch.labels.size(); ++n) {
      if (batch.labels[n] != 2) continue;
      ++members;
      for (std::size_t i = 0; i < count; ++i) {
        mean[i] += static_cast<double>(batch.images[n * count + i]);
      }
    }
    double squares = 0;
    for (const double m : mean) squares += m * m / (members * members);
    return squares / static_cast<double>(count);
  };
  CHECK(spread(Kind::random) < 0.01);
  CHECK(spread(Kind::learnable) > 0.02);
}

TEST_CASE("kinds by name") {
  CHECK(*data::kind_from("random") == Kind::random);
  CHECK(*data::kind_from("learnable") == Kind::learnable);
  const auto wrong = data::kind_from("cats");
  REQUIRE_FALSE(wrong.ok());
  CHECK(wrong.status().message().find("random, learnable") != std::string::npos);
}
