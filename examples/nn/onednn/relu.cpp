// SPDX-License-Identifier: Apache-2.0
// ReLU. Its gradient needs the output only, so it works in place; forward, and behind a batch norm
// backward too, the layer before it does the work.
#include "examples/nn/onednn/layers.h"

namespace nn::onednn {
namespace {

class ReluOperation final : public Operation {
 public:
  ReluOperation(const Site& site, bool forward_fused, bool backward_fused)
      : Operation(site), fused_(forward_fused) {
    output_ = site.in[0];
    const auto forward = describe_relu(engine_, output_);
    if (!fused_) forward_kernel_ = kernel(forward, Phase::forward);
    wanted_ = site.routes[0].wanted && !backward_fused;
    if (!wanted_) return;
    backward_kernel_ = kernel(describe_relu_backward(engine_, forward, output_), Phase::backward);
    delivery_ = deliver(site, 0);
  }

  void bind(const Tensors& t) override {
    if (!fused_) {
      forward_.push_back(step(forward_kernel_, t, {{DNNL_ARG_SRC, t.x[0]}, {DNNL_ARG_DST, t.y}}));
    }
    if (!wanted_) return;
    backward_inputs_.push_back(step(backward_kernel_, t,
                                    {{DNNL_ARG_DST, t.y},
                                     {DNNL_ARG_DIFF_DST, t.dy},
                                     {DNNL_ARG_DIFF_SRC, target(delivery_, t)}}));
    finish(delivery_, t, backward_inputs_);
  }

 private:
  Kernel forward_kernel_, backward_kernel_;
  bool fused_;
  bool wanted_ = false;
  Delivery delivery_;
};

}  // namespace

OperationPtr make_relu(const Site& site, bool forward_fused, bool backward_fused) {
  return std::make_unique<ReluOperation>(site, forward_fused, backward_fused);
}

}  // namespace nn::onednn
