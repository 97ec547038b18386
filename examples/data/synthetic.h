// SPDX-License-Identifier: Apache-2.0
// Synthetic ImageNet without a disk: every sample is a pure function of (seed, sample index), so
// any worker can make any sample, and N workers of batch b see what one process of batch N * b
// sees.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "examples/nn/graph.h"
#include "examples/nn/network.h"
#include "libdist/status.h"

namespace nn::data {

enum class Kind {
  random,     ///< Pixels uniform in [-1, 1), labels uniform: nothing to learn.
  learnable,  ///< A fixed smooth pattern per class plus noise: classes a network can learn.
};
/// "random" or "learnable"; anything else is an error that lists them.
dist::Result<Kind> kind_from(std::string_view name);

/// Owns the memory of one batch.
struct Samples {
  std::vector<float> images;  ///< NCHW.
  std::vector<std::int32_t> labels;

  Batch batch() const { return {images, labels}; }
};

/// Value type; thread-safe, since nothing in it changes.
class Synthetic {
 public:
  Synthetic(Kind kind, Shape image, std::int64_t classes, std::uint64_t seed);

  /// Worker `worker` of `workers` gets samples [worker * batch, (worker + 1) * batch) of the global
  /// batch number `step`, which has workers * batch samples. Make it outside the timed loop.
  Samples batch(std::uint64_t step, std::int64_t batch, std::int64_t worker = 0,
                std::int64_t workers = 1) const;

  /// Writes sample `index`; `image` has shape.elements() places.
  std::int32_t sample(std::uint64_t index, std::span<float> image) const;

 private:
  std::int32_t label_of(std::uint64_t index) const;
  void add_pattern(std::int32_t label, std::span<float> image) const;

  Kind kind_;
  Shape shape_;
  std::int64_t classes_;
  std::uint64_t seed_;
};

}  // namespace nn::data
