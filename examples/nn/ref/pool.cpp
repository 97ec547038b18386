// SPDX-License-Identifier: Apache-2.0
// Max and average pooling. Backward finds the largest pixel of a window again rather than keep it.
#include <algorithm>

#include "examples/nn/ref/layers.h"

namespace nn::ref {
namespace {

// The part of a window that lies inside the image: rows [h0, h1), columns [w0, w1).
struct Area {
  std::int64_t h0, h1, w0, w1;

  std::int64_t pixels() const { return (h1 - h0) * (w1 - w0); }
};

template <typename T>
class PoolOperation : public Operation<T> {
 public:
  PoolOperation(const Window& window, const Geometry& geometry)
      : window_(window),
        in_(geometry.in[0]),
        out_(geometry.out),
        planes_(geometry.batch * out_.channels) {}

 protected:
  // (offset of the plane in x, its index in y, area) for every output of the batch.
  template <typename Visit>
  void for_each_area(Visit visit) const {
    std::int64_t y = 0;
    for (std::int64_t plane = 0; plane < planes_; ++plane) {
      for (std::int64_t i = 0; i < out_.height; ++i) {
        for (std::int64_t j = 0; j < out_.width; ++j, ++y) {
          const std::int64_t h = i * window_.stride - window_.padding_h;
          const std::int64_t w = j * window_.stride - window_.padding_w;
          visit(plane * in_.height * in_.width, y,
                Area{std::max<std::int64_t>(h, 0), std::min(h + window_.kernel_h, in_.height),
                     std::max<std::int64_t>(w, 0), std::min(w + window_.kernel_w, in_.width)});
        }
      }
    }
  }

  // Windows overlap, so gradients are summed into place: start from zero unless something is there.
  void clear(const InputGradient<T>& dx) const {
    if (!dx.add) std::fill_n(dx.data, planes_ * in_.height * in_.width, T(0));
  }

  Window window_;
  Shape in_, out_;
  std::int64_t planes_;
};

template <typename T>
class MaxPoolOperation final : public PoolOperation<T> {
 public:
  using PoolOperation<T>::PoolOperation;

  void forward(const Tensors<T>& t, Mode) override {
    this->for_each_area([&](std::int64_t plane, std::int64_t y, const Area& area) {
      t.y[y] = t.x[0][largest(t.x[0], plane, area)];
    });
  }

  void backward(const Tensors<T>& t) override {
    if (t.dx[0].data == nullptr) return;
    this->clear(t.dx[0]);
    this->for_each_area([&](std::int64_t plane, std::int64_t y, const Area& area) {
      t.dx[0].data[largest(t.x[0], plane, area)] += t.dy[y];
    });
  }

 private:
  std::int64_t largest(const T* x, std::int64_t plane, const Area& area) const {
    std::int64_t best = plane + area.h0 * this->in_.width + area.w0;
    for (std::int64_t h = area.h0; h < area.h1; ++h) {
      for (std::int64_t w = area.w0; w < area.w1; ++w) {
        const std::int64_t i = plane + h * this->in_.width + w;
        if (x[i] > x[best]) best = i;
      }
    }
    return best;
  }
};

template <typename T>
class AvgPoolOperation final : public PoolOperation<T> {
 public:
  using PoolOperation<T>::PoolOperation;

  void forward(const Tensors<T>& t, Mode) override {
    this->for_each_area([&](std::int64_t plane, std::int64_t y, const Area& area) {
      T sum = 0;
      for (std::int64_t h = area.h0; h < area.h1; ++h) {
        for (std::int64_t w = area.w0; w < area.w1; ++w) {
          sum += t.x[0][plane + h * this->in_.width + w];
        }
      }
      t.y[y] = sum / static_cast<T>(area.pixels());
    });
  }

  void backward(const Tensors<T>& t) override {
    if (t.dx[0].data == nullptr) return;
    this->clear(t.dx[0]);
    this->for_each_area([&](std::int64_t plane, std::int64_t y, const Area& area) {
      const T share = t.dy[y] / static_cast<T>(area.pixels());
      for (std::int64_t h = area.h0; h < area.h1; ++h) {
        for (std::int64_t w = area.w0; w < area.w1; ++w) {
          t.dx[0].data[plane + h * this->in_.width + w] += share;
        }
      }
    });
  }
};

}  // namespace

template <typename T>
OperationPtr<T> make_max_pool(const Window& window, const Geometry& geometry) {
  return std::make_unique<MaxPoolOperation<T>>(window, geometry);
}
template <typename T>
OperationPtr<T> make_avg_pool(const Window& window, const Geometry& geometry) {
  return std::make_unique<AvgPoolOperation<T>>(window, geometry);
}
template <typename T>
OperationPtr<T> make_global_avg_pool(const Geometry& geometry) {
  const Shape& in = geometry.in[0];
  return make_avg_pool<T>({in.height, in.width, 1, 0, 0}, geometry);
}
template OperationPtr<float> make_max_pool(const Window&, const Geometry&);
template OperationPtr<double> make_max_pool(const Window&, const Geometry&);
template OperationPtr<float> make_avg_pool(const Window&, const Geometry&);
template OperationPtr<double> make_avg_pool(const Window&, const Geometry&);
template OperationPtr<float> make_global_avg_pool(const Geometry&);
template OperationPtr<double> make_global_avg_pool(const Geometry&);

}  // namespace nn::ref
