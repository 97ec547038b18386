// SPDX-License-Identifier: Apache-2.0
// Samples from the counter-based generator. Streams: "label" (index: the sample); one stream a
// sample for its pixels, one a class for its pattern.
#include "examples/data/synthetic.h"

#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "examples/nn/random.h"
#include "libdist/check.h"

namespace nn::data {
namespace {

constexpr int kWaves = 3;  // of one channel of a pattern

// cos and sin of 2 pi (frequency * i / count + phase) for every i.
struct Wave {
  Wave(std::uint64_t frequency, double phase, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const double turn =
          static_cast<double>(frequency) * static_cast<double>(i) / static_cast<double>(count) +
          phase;
      cosine.push_back(std::cos(2 * std::numbers::pi * turn));
      sine.push_back(std::sin(2 * std::numbers::pi * turn));
    }
  }
  std::vector<double> cosine, sine;
};

}  // namespace

dist::Result<Kind> kind_from(std::string_view name) {
  if (name == "random") return Kind::random;
  if (name == "learnable") return Kind::learnable;
  return dist::Status::invalid_argument(
      fmt::format("unknown data '{}'; valid: random, learnable", name));
}

Synthetic::Synthetic(Kind kind, Shape image, std::int64_t classes, std::uint64_t seed)
    : kind_(kind), shape_(image), classes_(classes), seed_(seed) {
  DIST_ASSERT(classes > 0 && image.elements() > 0, "data without classes or pixels");
}

std::int32_t Synthetic::label_of(std::uint64_t index) const {
  return static_cast<std::int32_t>(random_bits(seed_, stream_of("label"), index) %
                                   static_cast<std::uint64_t>(classes_));
}

std::int32_t Synthetic::sample(std::uint64_t index, std::span<float> image) const {
  const auto count = static_cast<std::size_t>(shape_.elements());
  DIST_ASSERT(image.size() == count, "an image of another size");
  const double scale = kind_ == Kind::random ? 1.0 : 0.5;
  const std::uint64_t stream = mix64(stream_of("pixels") + index);
  for (std::size_t i = 0; i < count; ++i) {
    image[i] = static_cast<float>(scale * (2.0 * random_uniform(seed_, stream, i) - 1.0));
  }
  const std::int32_t label = label_of(index);
  if (kind_ == Kind::learnable) add_pattern(label, image);
  return label;
}

// Adds 0.5 * mean over kWaves of cos(2 pi (fx x / width + fy y / height + phase)), per channel.
void Synthetic::add_pattern(std::int32_t label, std::span<float> image) const {
  const std::uint64_t stream = mix64(stream_of("pattern") + static_cast<std::uint64_t>(label));
  std::size_t plane = 0;
  std::uint64_t draw = 0;
  for (std::int64_t c = 0; c < shape_.channels; ++c) {
    for (int wave = 0; wave < kWaves; ++wave, draw += 3) {
      const Wave along(random_bits(seed_, stream, draw) % 4,
                       random_uniform(seed_, stream, draw + 2), shape_.width);
      const Wave down(random_bits(seed_, stream, draw + 1) % 4, 0.0, shape_.height);
      std::size_t i = plane;
      for (std::size_t y = 0; y < down.cosine.size(); ++y) {
        for (std::size_t x = 0; x < along.cosine.size(); ++x, ++i) {
          image[i] += static_cast<float>(
              (along.cosine[x] * down.cosine[y] - along.sine[x] * down.sine[y]) * (0.5 / kWaves));
        }
      }
    }
    plane += static_cast<std::size_t>(shape_.height * shape_.width);
  }
}

Samples Synthetic::batch(std::uint64_t step, std::int64_t batch, std::int64_t worker,
                         std::int64_t workers) const {
  DIST_ASSERT(batch > 0 && worker >= 0 && worker < workers, "no such worker");
  const auto count = static_cast<std::size_t>(shape_.elements());
  const auto size = static_cast<std::uint64_t>(batch);
  const std::uint64_t first =
      (step * static_cast<std::uint64_t>(workers) + static_cast<std::uint64_t>(worker)) * size;
  Samples samples;
  samples.images.resize(count * size);
  for (std::uint64_t i = 0; i < size; ++i) {
    samples.labels.push_back(
        sample(first + i, std::span<float>(samples.images).subspan(i * count, count)));
  }
  return samples;
}

}  // namespace nn::data
