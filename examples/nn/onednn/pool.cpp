// SPDX-License-Identifier: Apache-2.0
// Max and average pooling. Max pooling keeps the place of each window's largest value.
#include "examples/nn/onednn/layers.h"

namespace nn::onednn {
namespace {

class PoolOperation final : public Operation {
 public:
  PoolOperation(dnnl::algorithm algorithm, const Window& w, const Site& site) : Operation(site) {
    const Sliding window{
        {w.kernel_h, w.kernel_w}, {w.stride, w.stride}, {w.padding_h, w.padding_w}};
    const memory::desc& src = site.in[0];
    const auto forward =
        describe_pooling(engine_, algorithm, src, any_desc(site.output_dims()), window);
    output_ = forward.dst_desc();
    forward_kernel_ = kernel(forward, Phase::forward);
    places_ = forward.workspace_desc();
    places_slot_ = reserve(places_.get_size(), Phase::step);
    wanted_ = site.routes[0].wanted;
    if (!wanted_) return;
    backward_kernel_ =
        kernel(describe_pooling_backward(engine_, forward, algorithm, src, output_, window),
               Phase::backward);
    delivery_ = deliver(site, 0);
  }

  void bind(const Tensors& t) override {
    std::unordered_map<int, memory> forward{{DNNL_ARG_SRC, t.x[0]}, {DNNL_ARG_DST, t.y}};
    std::unordered_map<int, memory> backward{{DNNL_ARG_DIFF_DST, t.dy}};
    if (places_.get_size() > 0) {
      const memory places = workspace(t, places_slot_, places_);
      forward.insert({DNNL_ARG_WORKSPACE, places});
      backward.insert({DNNL_ARG_WORKSPACE, places});
    }
    forward_.push_back(step(forward_kernel_, t, std::move(forward)));
    if (!wanted_) return;
    backward.insert({DNNL_ARG_DIFF_SRC, target(delivery_, t)});
    backward_inputs_.push_back(step(backward_kernel_, t, std::move(backward)));
    finish(delivery_, t, backward_inputs_);
  }

 private:
  Kernel forward_kernel_, backward_kernel_;
  memory::desc places_;
  std::size_t places_slot_ = 0;
  bool wanted_ = false;
  Delivery delivery_;
};

}  // namespace

OperationPtr make_max_pool(const Window& window, const Site& site) {
  return std::make_unique<PoolOperation>(dnnl::algorithm::pooling_max, window, site);
}
OperationPtr make_avg_pool(const Window& window, const Site& site) {
  return std::make_unique<PoolOperation>(dnnl::algorithm::pooling_avg_exclude_padding, window,
                                         site);
}

}  // namespace nn::onednn
