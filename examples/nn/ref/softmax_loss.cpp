// SPDX-License-Identifier: Apache-2.0
// Softmax and mean cross-entropy. Keeps the probabilities; the gradient is (p - onehot) / batch.
#include <algorithm>
#include <cmath>

#include "examples/nn/ref/layers.h"
#include "libdist/check.h"

namespace nn::ref {
namespace {

template <typename T>
class Softmax final : public SoftmaxLossOperation<T> {
 public:
  explicit Softmax(const Geometry& geometry)
      : batch_(geometry.batch), classes_(geometry.out.channels) {}

  void set_labels(std::span<const std::int32_t> labels) override {
    DIST_ASSERT(static_cast<std::int64_t>(labels.size()) == batch_, "one label an image");
    labels_.assign(labels.begin(), labels.end());
  }
  double loss() const override { return loss_; }
  double accuracy() const override {
    return static_cast<double>(right_) / static_cast<double>(batch_);
  }

  void forward(const Tensors<T>& t, Mode) override {
    loss_ = 0;
    right_ = 0;
    for (std::int64_t n = 0; n < batch_; ++n) {
      const T* x = t.x[0] + n * classes_;
      const std::int32_t label = labels_[static_cast<std::size_t>(n)];
      DIST_ASSERT(label >= 0 && label < classes_, "a label outside [0, classes)");
      const T* top = std::max_element(x, x + classes_);
      right_ += top - x == label ? 1 : 0;
      const double largest = static_cast<double>(*top);
      double sum = 0;
      for (std::int64_t c = 0; c < classes_; ++c)
        sum += std::exp(static_cast<double>(x[c]) - largest);
      const double log_sum = largest + std::log(sum);
      for (std::int64_t c = 0; c < classes_; ++c) {
        t.y[n * classes_ + c] = static_cast<T>(std::exp(static_cast<double>(x[c]) - log_sum));
      }
      loss_ += log_sum - static_cast<double>(x[label]);
    }
    loss_ /= static_cast<double>(batch_);
  }

  void backward(const Tensors<T>& t) override {
    if (t.dx[0].data == nullptr) return;
    const T scale = T(1) / static_cast<T>(batch_);
    for (std::int64_t n = 0; n < batch_; ++n) {
      for (std::int64_t c = 0; c < classes_; ++c) {
        const std::int64_t i = n * classes_ + c;
        const T target = c == labels_[static_cast<std::size_t>(n)] ? T(1) : T(0);
        t.dx[0].put(i, (t.y[i] - target) * scale);
      }
    }
  }

 private:
  std::int64_t batch_, classes_;
  std::vector<std::int32_t> labels_;
  double loss_ = 0;
  std::int64_t right_ = 0;
};

}  // namespace

template <typename T>
std::unique_ptr<SoftmaxLossOperation<T>> make_softmax_loss(const Geometry& geometry) {
  return std::make_unique<Softmax<T>>(geometry);
}
template std::unique_ptr<SoftmaxLossOperation<float>> make_softmax_loss(const Geometry&);
template std::unique_ptr<SoftmaxLossOperation<double>> make_softmax_loss(const Geometry&);

}  // namespace nn::ref
