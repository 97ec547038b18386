// SPDX-License-Identifier: Apache-2.0
// Convolution, with the ReLU that follows it where there is one. Weights lie in the arena as
// forward and backward-by-weights read and write them; backward-by-data wants the two blocks of
// channels swapped, so it reorders the weights first.
#include "examples/nn/onednn/weighted.h"

namespace nn::onednn {
namespace {

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

class ConvOperation final : public WeightedOperation {
 public:
  ConvOperation(const Conv& options, const Site& site) : WeightedOperation(site) {
    const Window& w = options.window;
    const memory::desc& src = site.in[0];
    const memory::dims strides{w.stride, w.stride};
    const memory::dims padding{w.padding_h, w.padding_w};
    const memory::dims weight_dims{options.out_channels, dims_of(src)[1], w.kernel_h, w.kernel_w};
    const memory::desc bias = options.bias ? plain_desc({options.out_channels}) : memory::desc();

    const auto forward = describe<dnnl::convolution_forward>(
        engine_, attributes(site.relu_follows), dnnl::prop_kind::forward_training, kDirect, src,
        any_desc(weight_dims), bias, any_desc(site.output_dims()), strides, padding, padding);
    plan_forward(forward, src, options.bias);
    output_ = dst_;
    plan_backward_weights([&](const memory::desc& weights) {
      return describe_backward<dnnl::convolution_backward_weights>(
          engine_, forward, kDirect, src, weights, bias, dst_, strides, padding, padding);
    });
    plan_backward_data(site, [&](const memory::desc& weights) {
      return describe_backward<dnnl::convolution_backward_data>(
          engine_, forward, kDirect, src, weights, dst_, strides, padding, padding);
    });
  }
};

}  // namespace

OperationPtr make_conv(const Conv& options, const Site& site) {
  return std::make_unique<ConvOperation>(options, site);
}

}  // namespace nn::onednn
