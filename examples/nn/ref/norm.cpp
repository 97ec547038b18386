// SPDX-License-Identifier: Apache-2.0
// Batch normalisation over batch, height and width. With z = (x - mean) / sqrt(var + epsilon):
//   y = gamma z + beta;  dgamma = sum(dy z);  dbeta = sum(dy)
//   dx = gamma / sqrt(var + epsilon) * (dy - dbeta / n - z dgamma / n)
#include <algorithm>
#include <cmath>

#include "examples/nn/ref/layers.h"

namespace nn::ref {
namespace {

template <typename T>
class BatchNormOperation final : public Operation<T> {
 public:
  BatchNormOperation(const BatchNorm& options, const Geometry& geometry)
      : options_(options),
        batch_(geometry.batch),
        channels_(geometry.out.channels),
        plane_(geometry.out.height * geometry.out.width),
        mean_(static_cast<std::size_t>(channels_)),
        inverse_deviation_(mean_.size()),
        running_mean_(mean_.size(), 0.0),
        running_variance_(mean_.size(), 1.0) {}

  void forward(const Tensors<T>& t, Mode mode) override {
    for (std::int64_t c = 0; c < channels_; ++c) {
      const auto i = static_cast<std::size_t>(c);
      double mean = running_mean_[i];
      double variance = running_variance_[i];
      if (mode == Mode::train) {
        measure(t.x[0], c, mean, variance);
        mean_[i] = mean;
        inverse_deviation_[i] = 1.0 / std::sqrt(variance + options_.epsilon);
      }
      const double scale =
          static_cast<double>(t.parameters[0][c]) / std::sqrt(variance + options_.epsilon);
      const double shift = static_cast<double>(t.parameters[1][c]) - mean * scale;
      for_each_run(c, [&](std::int64_t begin) {
        for (std::int64_t p = begin; p < begin + plane_; ++p) {
          t.y[p] = static_cast<T>(static_cast<double>(t.x[0][p]) * scale + shift);
        }
      });
    }
  }

  void backward(const Tensors<T>& t) override {
    const double n = static_cast<double>(batch_ * plane_);
    for (std::int64_t c = 0; c < channels_; ++c) {
      const double mean = mean_[static_cast<std::size_t>(c)];
      const double inverse = inverse_deviation_[static_cast<std::size_t>(c)];
      double sum = 0;
      double dot = 0;
      for_each_run(c, [&](std::int64_t begin) {
        for (std::int64_t p = begin; p < begin + plane_; ++p) {
          const double dy = static_cast<double>(t.dy[p]);
          sum += dy;
          dot += dy * (static_cast<double>(t.x[0][p]) - mean) * inverse;
        }
      });
      t.gradients[0][c] = static_cast<T>(dot);
      t.gradients[1][c] = static_cast<T>(sum);
      if (t.dx[0].data == nullptr) continue;
      const double scale = static_cast<double>(t.parameters[0][c]) * inverse;
      for_each_run(c, [&](std::int64_t begin) {
        for (std::int64_t p = begin; p < begin + plane_; ++p) {
          const double z = (static_cast<double>(t.x[0][p]) - mean) * inverse;
          t.dx[0].put(
              p, static_cast<T>(scale * (static_cast<double>(t.dy[p]) - sum / n - z * dot / n)));
        }
      });
    }
  }

 private:
  template <typename Visit>
  void for_each_run(std::int64_t channel, Visit visit) const {
    for (std::int64_t n = 0; n < batch_; ++n) visit((n * channels_ + channel) * plane_);
  }

  // Mean and biased variance of a channel, in two passes; moves the running statistics.
  void measure(const T* x, std::int64_t channel, double& mean, double& variance) {
    const double n = static_cast<double>(batch_ * plane_);
    double sum = 0;
    for_each_run(channel, [&](std::int64_t begin) {
      for (std::int64_t p = begin; p < begin + plane_; ++p) sum += static_cast<double>(x[p]);
    });
    mean = sum / n;
    double squares = 0;
    for_each_run(channel, [&](std::int64_t begin) {
      for (std::int64_t p = begin; p < begin + plane_; ++p) {
        const double d = static_cast<double>(x[p]) - mean;
        squares += d * d;
      }
    });
    variance = squares / n;
    const double unbiased = squares / std::max(n - 1.0, 1.0);
    const auto i = static_cast<std::size_t>(channel);
    running_mean_[i] += options_.momentum * (mean - running_mean_[i]);
    running_variance_[i] += options_.momentum * (unbiased - running_variance_[i]);
  }

  BatchNorm options_;
  std::int64_t batch_, channels_, plane_;
  std::vector<double> mean_, inverse_deviation_, running_mean_, running_variance_;
};

}  // namespace

template <typename T>
OperationPtr<T> make_batch_norm(const BatchNorm& options, const Geometry& geometry) {
  return std::make_unique<BatchNormOperation<T>>(options, geometry);
}
template OperationPtr<float> make_batch_norm(const BatchNorm&, const Geometry&);
template OperationPtr<double> make_batch_norm(const BatchNorm&, const Geometry&);

}  // namespace nn::ref
