// SPDX-License-Identifier: Apache-2.0
// A data set that can be learnt: every class has a pattern, every sample is one under noise. Made
// by the sample's number, so that all processes see the same set.
#pragma once

#include <torch/torch.h>

#include <cstdint>

/// `size` images {channels, side, side} of 10 classes.
class Patterns : public torch::data::datasets::Dataset<Patterns> {
 public:
  Patterns(int64_t size, int64_t channels, int64_t side)
      : size_(size), shape_{channels, side, side} {}

  torch::data::Example<> get(size_t index) override {
    const auto label = static_cast<int64_t>(index % 10);
    return {wave(static_cast<double>(label) + 1) + 0.5 * wave(97.0 + static_cast<double>(index)),
            torch::tensor(label)};
  }

  torch::optional<size_t> size() const override { return size_; }

 private:
  // Pseudo-random values in [-1, 1], by frequency.
  torch::Tensor wave(double frequency) const {
    const auto n = shape_[0] * shape_[1] * shape_[2];
    const auto at = torch::arange(n, torch::kFloat64);
    return torch::sin(at * at * 0.013 * frequency + frequency).to(torch::kFloat32).reshape(shape_);
  }

  int64_t size_;
  std::vector<int64_t> shape_;
};
