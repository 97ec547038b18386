// SPDX-License-Identifier: Apache-2.0
// Max and average pooling. Max pooling keeps the place of each window's largest value.
#include "examples/nn/cudnn/failure.h"
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

PoolShape shape_of(const Window& w, const Site& site) {
  const Shape& in = site.shape_of_input();
  const Shape& out = site.shape();
  return {.batch = site.options.batch,
          .channels = padded(out.channels),
          .in_h = in.height,
          .in_w = in.width,
          .out_h = out.height,
          .out_w = out.width,
          .kernel_h = w.kernel_h,
          .kernel_w = w.kernel_w,
          .stride = w.stride,
          .padding_h = w.padding_h,
          .padding_w = w.padding_w};
}

class MaxPoolOperation final : public Operation {
 public:
  MaxPoolOperation(const Window& window, const Site& site)
      : Operation(site), shape_(shape_of(window, site)) {
    if (window.kernel_h * window.kernel_w > kLargestPoolWindow) {
      throw Failure(site.node().name + ": max pooling takes windows of at most " +
                    std::to_string(kLargestPoolWindow) + " pixels");
    }
    places_ = keep(static_cast<std::uint64_t>(extent_.pixels * extent_.channels));
  }

  void forward(dist::Stream stream, Mode) override {
    max_pool(stream, element_, shape_, t_.x[0], t_.y, bytes_at(places_));
  }
  void backward(dist::Stream stream) override {
    if (t_.dx[0]) max_pool_backward(stream, element_, shape_, t_.dy, bytes_at(places_), t_.dx[0]);
  }

 private:
  PoolShape shape_;
  std::size_t places_ = 0;
};

class AvgPoolOperation final : public Operation {
 public:
  AvgPoolOperation(const Window& window, const Site& site)
      : Operation(site), shape_(shape_of(window, site)) {}

  void forward(dist::Stream stream, Mode) override {
    average_pool(stream, element_, shape_, t_.x[0], t_.y);
  }
  void backward(dist::Stream stream) override {
    if (t_.dx[0]) average_pool_backward(stream, element_, shape_, t_.dy, t_.dx[0]);
  }

 private:
  PoolShape shape_;
};

}  // namespace

OperationPtr make_max_pool(const Window& window, const Site& site) {
  return std::make_unique<MaxPoolOperation>(window, site);
}
OperationPtr make_avg_pool(const Window& window, const Site& site) {
  return std::make_unique<AvgPoolOperation>(window, site);
}

}  // namespace nn::cudnn
