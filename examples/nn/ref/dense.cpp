// SPDX-License-Identifier: Apache-2.0
// Dense: y [batch, out] = x [batch, in] * weight^T + bias, weight [out, in].
#include <algorithm>

#include "examples/nn/ref/gemm.h"
#include "examples/nn/ref/layers.h"

namespace nn::ref {
namespace {

// Rows and columns of a plain matrix [rows, columns], as gemm wants them.
template <typename T>
struct Matrix {
  const T* data;
  std::int64_t columns;

  auto rows() const {
    return [*this](std::int64_t row, std::int64_t begin, std::int64_t count, T* out) {
      std::copy_n(data + row * columns + begin, count, out);
    };
  }
  auto transposed_rows() const {
    return [*this](std::int64_t column, std::int64_t begin, std::int64_t count, T* out) {
      for (std::int64_t i = 0; i < count; ++i) out[i] = data[(begin + i) * columns + column];
    };
  }
};

template <typename T>
auto sink_to(T* data, std::int64_t columns, bool add_always = false) {
  return [=](std::int64_t row, std::int64_t begin, std::int64_t count, const T* values, bool add) {
    T* to = data + row * columns + begin;
    for (std::int64_t i = 0; i < count; ++i) {
      to[i] = add || add_always ? to[i] + values[i] : values[i];
    }
  };
}

template <typename T>
class DenseOperation final : public Operation<T> {
 public:
  explicit DenseOperation(const Geometry& geometry)
      : batch_(geometry.batch), in_(geometry.in[0].elements()), out_(geometry.out.elements()) {}

  void forward(const Tensors<T>& t, Mode) override {
    gemm<T>(batch_, out_, in_, Matrix<T>{t.x[0], in_}.rows(),
            Matrix<T>{t.parameters[0], in_}.transposed_rows(), sink_to(t.y, out_));
    if (t.parameters.size() < 2) return;
    for (std::int64_t n = 0; n < batch_; ++n) {
      for (std::int64_t o = 0; o < out_; ++o) t.y[n * out_ + o] += t.parameters[1][o];
    }
  }

  void backward(const Tensors<T>& t) override {
    const Matrix<T> dy{t.dy, out_};
    gemm<T>(out_, in_, batch_, dy.transposed_rows(), Matrix<T>{t.x[0], in_}.rows(),
            sink_to(t.gradients[0], in_));
    if (t.gradients.size() > 1) {
      std::fill_n(t.gradients[1], out_, T(0));
      for (std::int64_t n = 0; n < batch_; ++n) {
        for (std::int64_t o = 0; o < out_; ++o) t.gradients[1][o] += t.dy[n * out_ + o];
      }
    }
    if (t.dx[0].data != nullptr) {
      gemm<T>(batch_, in_, out_, dy.rows(), Matrix<T>{t.parameters[0], in_}.rows(),
              sink_to(t.dx[0].data, in_, t.dx[0].add));
    }
  }

 private:
  std::int64_t batch_, in_, out_;
};

}  // namespace

template <typename T>
OperationPtr<T> make_dense(const Dense&, const Geometry& geometry) {
  return std::make_unique<DenseOperation<T>>(geometry);
}
template OperationPtr<float> make_dense(const Dense&, const Geometry&);
template OperationPtr<double> make_dense(const Dense&, const Geometry&);

}  // namespace nn::ref
