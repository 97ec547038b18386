// SPDX-License-Identifier: Apache-2.0
// Add and Concat: where branches meet.
#include <algorithm>

#include "examples/nn/ref/layers.h"

namespace nn::ref {
namespace {

template <typename T>
class AddOperation final : public Operation<T> {
 public:
  explicit AddOperation(const Geometry& geometry) : count_(geometry.out_elements()) {}

  void forward(const Tensors<T>& t, Mode) override {
    for (std::int64_t i = 0; i < count_; ++i) t.y[i] = t.x[0][i] + t.x[1][i];
  }

  void backward(const Tensors<T>& t) override {
    for (const InputGradient<T>& dx : t.dx) {
      if (dx.data == nullptr || dx.data == t.dy) continue;  // shared: the gradient is there already
      for (std::int64_t i = 0; i < count_; ++i) dx.put(i, t.dy[i]);
    }
  }

 private:
  std::int64_t count_;
};

template <typename T>
class ConcatOperation final : public Operation<T> {
 public:
  explicit ConcatOperation(const Geometry& geometry) : geometry_(geometry) {}

  void forward(const Tensors<T>& t, Mode) override {
    for_each_part([&](std::size_t k, std::int64_t from, std::int64_t to, std::int64_t count) {
      std::copy_n(t.x[k] + from, count, t.y + to);
    });
  }

  void backward(const Tensors<T>& t) override {
    for_each_part([&](std::size_t k, std::int64_t from, std::int64_t to, std::int64_t count) {
      if (t.dx[k].data == nullptr) return;
      for (std::int64_t i = 0; i < count; ++i) t.dx[k].put(from + i, t.dy[to + i]);
    });
  }

 private:
  // (input, its offset, the output's offset, elements) for every input of every image.
  template <typename Visit>
  void for_each_part(Visit visit) const {
    std::int64_t to = 0;
    for (std::int64_t n = 0; n < geometry_.batch; ++n) {
      for (std::size_t k = 0; k < geometry_.in.size(); ++k) {
        const std::int64_t count = geometry_.in[k].elements();
        visit(k, n * count, to, count);
        to += count;
      }
    }
  }

  Geometry geometry_;
};

}  // namespace

template <typename T>
OperationPtr<T> make_add(const Geometry& geometry) {
  return std::make_unique<AddOperation<T>>(geometry);
}
template <typename T>
OperationPtr<T> make_concat(const Geometry& geometry) {
  return std::make_unique<ConcatOperation<T>>(geometry);
}
template OperationPtr<float> make_add(const Geometry&);
template OperationPtr<double> make_add(const Geometry&);
template OperationPtr<float> make_concat(const Geometry&);
template OperationPtr<double> make_concat(const Geometry&);

}  // namespace nn::ref
