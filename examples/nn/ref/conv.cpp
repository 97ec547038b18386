// SPDX-License-Identifier: Apache-2.0
// Convolution as three matrix products over the whole batch, with the unfolded image made row by
// row:
//   y [oc, positions]  = weight [oc, taps] * patches [taps, positions]
//   dweight [oc, taps] = dy [oc, positions] * patches^T
//   dx [ic, pixels]    = weight^T [ic, oc * kernel] * (dy seen from each pixel) [oc * kernel,
//   pixels]
// taps = in_channels * kernel_h * kernel_w; positions = batch * out_h * out_w.
#include <algorithm>

#include "examples/nn/ref/gemm.h"
#include "examples/nn/ref/layers.h"

namespace nn::ref {
namespace {

// Walks batch * height * width one element at a time.
struct Position {
  Position(std::int64_t index, const Shape& s)
      : image(index / (s.height * s.width)),
        row(index / s.width % s.height),
        column(index % s.width) {}

  void advance(const Shape& s) {
    if (++column < s.width) return;
    column = 0;
    if (++row < s.height) return;
    row = 0;
    ++image;
  }

  std::int64_t image, row, column;
};

// A tensor of the batch as a matrix [channels, batch * height * width].
template <typename T>
struct ChannelRows {
  T* data;
  Shape shape;

  template <typename Visit>
  void visit(std::int64_t channel, std::int64_t begin, std::int64_t count, Visit visit) const {
    const std::int64_t plane = shape.height * shape.width;
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t image = (begin + done) / plane;
      const std::int64_t pixel = (begin + done) % plane;
      const std::int64_t run = std::min(count - done, plane - pixel);
      visit(data + (image * shape.channels + channel) * plane + pixel, done, run);
      done += run;
    }
  }
  void read(std::int64_t channel, std::int64_t begin, std::int64_t count,
            std::remove_const_t<T>* out) const {
    visit(channel, begin, count, [&](const T* from, std::int64_t at, std::int64_t run) {
      std::copy_n(from, run, out + at);
    });
  }
  void write(std::int64_t channel, std::int64_t begin, std::int64_t count, const T* values,
             bool add) const {
    visit(channel, begin, count, [&](T* to, std::int64_t at, std::int64_t run) {
      for (std::int64_t i = 0; i < run; ++i) to[i] = add ? to[i] + values[at + i] : values[at + i];
    });
  }
};

template <typename T>
class ConvOperation final : public Operation<T> {
 public:
  ConvOperation(const Conv& options, const Geometry& geometry)
      : window_(options.window),
        in_(geometry.in[0]),
        out_(geometry.out),
        kernel_(window_.kernel_h * window_.kernel_w),
        taps_(in_.channels * kernel_),
        positions_(geometry.batch * out_.height * out_.width),
        pixels_(geometry.batch * in_.height * in_.width) {}

  void forward(const Tensors<T>& t, Mode) override {
    const ChannelRows<T> y{t.y, out_};
    const T* bias = t.parameters.size() > 1 ? t.parameters[1] : nullptr;
    gemm<T>(
        out_.channels, positions_, taps_, rows_of(t.parameters[0], taps_),
        [&](std::int64_t tap, std::int64_t begin, std::int64_t count, T* out) {
          read_tap(t.x[0], tap, begin, count, out);
        },
        [&](std::int64_t channel, std::int64_t begin, std::int64_t count, T* values, bool add) {
          if (bias != nullptr && !add) {
            for (std::int64_t i = 0; i < count; ++i) values[i] += bias[channel];
          }
          y.write(channel, begin, count, values, add);
        });
  }

  void backward(const Tensors<T>& t) override {
    backward_weight(t);
    if (t.gradients.size() > 1) backward_bias(t);
    if (t.dx[0].data != nullptr) backward_data(t);
  }

 private:
  static auto rows_of(const T* matrix, std::int64_t columns) {
    return [=](std::int64_t row, std::int64_t begin, std::int64_t count, T* out) {
      std::copy_n(matrix + row * columns + begin, count, out);
    };
  }

  // One row of `patches`: what kernel tap `tap` sees at the output positions [begin, begin +
  // count).
  void read_tap(const T* x, std::int64_t tap, std::int64_t begin, std::int64_t count,
                T* out) const {
    const std::int64_t channel = tap / kernel_;
    const std::int64_t shift_h = tap % kernel_ / window_.kernel_w - window_.padding_h;
    const std::int64_t shift_w = tap % window_.kernel_w - window_.padding_w;
    Position at(begin, out_);
    for (std::int64_t i = 0; i < count; ++i, at.advance(out_)) {
      const std::int64_t h = at.row * window_.stride + shift_h;
      const std::int64_t w = at.column * window_.stride + shift_w;
      const bool inside = h >= 0 && h < in_.height && w >= 0 && w < in_.width;
      out[i] =
          inside ? x[((at.image * in_.channels + channel) * in_.height + h) * in_.width + w] : T(0);
    }
  }

  // One column of `patches`: what the taps [begin, begin + count) see at one output position.
  void read_patch(const T* x, std::int64_t position, std::int64_t begin, std::int64_t count,
                  T* out) const {
    const Position at(position, out_);
    const Shape window{in_.channels, window_.kernel_h, window_.kernel_w};
    Position tap(begin, window);  // its image is the channel
    for (std::int64_t i = 0; i < count; ++i, tap.advance(window)) {
      const std::int64_t h = at.row * window_.stride + tap.row - window_.padding_h;
      const std::int64_t w = at.column * window_.stride + tap.column - window_.padding_w;
      const bool inside = h >= 0 && h < in_.height && w >= 0 && w < in_.width;
      out[i] = inside ? x[((at.image * in_.channels + tap.image) * in_.height + h) * in_.width + w]
                      : T(0);
    }
  }

  // The gradient that the pixels [begin, begin + count) get through one tap of one output channel.
  void read_gradient(const T* dy, std::int64_t channel_tap, std::int64_t begin, std::int64_t count,
                     T* out) const {
    const std::int64_t channel = channel_tap / kernel_;
    const std::int64_t shift_h = window_.padding_h - channel_tap % kernel_ / window_.kernel_w;
    const std::int64_t shift_w = window_.padding_w - channel_tap % window_.kernel_w;
    const std::int64_t stride = window_.stride;
    Position at(begin, in_);
    for (std::int64_t i = 0; i < count; ++i, at.advance(in_)) {
      std::int64_t h = at.row + shift_h;
      std::int64_t w = at.column + shift_w;
      bool hit = h >= 0 && w >= 0;
      if (stride != 1 && hit) {
        hit = h % stride == 0 && w % stride == 0;
        h /= stride;
        w /= stride;
      }
      hit = hit && h < out_.height && w < out_.width;
      out[i] = hit ? dy[((at.image * out_.channels + channel) * out_.height + h) * out_.width + w]
                   : T(0);
    }
  }

  void backward_weight(const Tensors<T>& t) const {
    const ChannelRows<const T> dy{t.dy, out_};
    T* gradient = t.gradients[0];
    gemm<T>(
        out_.channels, taps_, positions_,
        [&](std::int64_t channel, std::int64_t begin, std::int64_t count, T* out) {
          dy.read(channel, begin, count, out);
        },
        [&](std::int64_t position, std::int64_t begin, std::int64_t count, T* out) {
          read_patch(t.x[0], position, begin, count, out);
        },
        [&](std::int64_t channel, std::int64_t begin, std::int64_t count, const T* values,
            bool add) {
          T* to = gradient + channel * taps_ + begin;
          for (std::int64_t i = 0; i < count; ++i) to[i] = add ? to[i] + values[i] : values[i];
        });
  }

  void backward_bias(const Tensors<T>& t) const {
    const ChannelRows<const T> dy{t.dy, out_};
    for (std::int64_t channel = 0; channel < out_.channels; ++channel) {
      double sum = 0;
      dy.visit(channel, 0, positions_, [&](const T* values, std::int64_t, std::int64_t run) {
        for (std::int64_t i = 0; i < run; ++i) sum += static_cast<double>(values[i]);
      });
      t.gradients[1][channel] = static_cast<T>(sum);
    }
  }

  void backward_data(const Tensors<T>& t) const {
    const ChannelRows<T> dx{t.dx[0].data, in_};
    const T* weight = t.parameters[0];
    gemm<T>(
        in_.channels, pixels_, out_.channels * kernel_,
        [&](std::int64_t channel, std::int64_t begin, std::int64_t count, T* out) {
          for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t k = begin + i;
            out[i] = weight[k / kernel_ * taps_ + channel * kernel_ + k % kernel_];
          }
        },
        [&](std::int64_t channel_tap, std::int64_t begin, std::int64_t count, T* out) {
          read_gradient(t.dy, channel_tap, begin, count, out);
        },
        [&](std::int64_t channel, std::int64_t begin, std::int64_t count, const T* values,
            bool add) { dx.write(channel, begin, count, values, add || t.dx[0].add); });
  }

  Window window_;
  Shape in_, out_;
  std::int64_t kernel_, taps_, positions_, pixels_;
};

}  // namespace

template <typename T>
OperationPtr<T> make_conv(const Conv& options, const Geometry& geometry) {
  return std::make_unique<ConvOperation<T>>(options, geometry);
}
template OperationPtr<float> make_conv(const Conv&, const Geometry&);
template OperationPtr<double> make_conv(const Conv&, const Geometry&);

}  // namespace nn::ref
