// SPDX-License-Identifier: Apache-2.0
// y = max(x, 0). The gradient passes where y > 0, so x need not be kept.
#include "examples/nn/ref/layers.h"

namespace nn::ref {
namespace {

template <typename T>
class ReluOperation final : public Operation<T> {
 public:
  explicit ReluOperation(const Geometry& geometry) : count_(geometry.out_elements()) {}

  void forward(const Tensors<T>& t, Mode) override {
    const T* x = t.x[0];
    for (std::int64_t i = 0; i < count_; ++i) t.y[i] = x[i] > T(0) ? x[i] : T(0);
  }

  void backward(const Tensors<T>& t) override {
    if (t.dx[0].data == nullptr) return;
    for (std::int64_t i = 0; i < count_; ++i) t.dx[0].put(i, t.y[i] > T(0) ? t.dy[i] : T(0));
  }

 private:
  std::int64_t count_;
};

}  // namespace

template <typename T>
OperationPtr<T> make_relu(const Geometry& geometry) {
  return std::make_unique<ReluOperation<T>>(geometry);
}
template OperationPtr<float> make_relu(const Geometry&);
template OperationPtr<double> make_relu(const Geometry&);

}  // namespace nn::ref
