// SPDX-License-Identifier: Apache-2.0
// What convolution and dense share: a weight in one layout of the arena, perhaps a bias, and three
// primitives. Where a backward primitive has good code only for another layout of the weights, it
// gets a reordered copy in scratch.
#pragma once

#include <optional>

#include "examples/nn/onednn/layers.h"

namespace nn::onednn {

class WeightedOperation : public Operation {
 public:
  using Operation::Operation;
  void bind(const Tensors& tensors) override;

 protected:
  /// `src` and `dst`: how the primitives see input and output; same bytes, perhaps other
  /// dimensions.
  template <typename Descriptor>
  void plan_forward(const Descriptor& forward, const memory::desc& src, bool bias) {
    src_ = src;
    dst_ = forward.dst_desc();
    parameters_ = {forward.weights_desc()};
    if (bias) parameters_.push_back(plain_desc({dims_of(dst_)[1]}));
    forward_kernel_ = kernel(forward, Phase::forward);
  }

  /// `make` maps a layout of the weights to the descriptor of the backward primitive.
  template <typename Make>
  void plan_backward_weights(const Make& make) {
    const auto backward = prefer_layout(parameters_[0], make, [](const auto& descriptor) {
      return descriptor.diff_weights_desc();
    });
    weights_kernel_ = kernel(backward, Phase::backward);
    gradient_copy_ = copy_unless_equal(backward.diff_weights_desc(), false);
  }
  template <typename Make>
  void plan_backward_data(const Site& site, const Make& make) {
    if (!site.routes[0].wanted) return;
    const auto backward = prefer_layout(
        parameters_[0], make, [](const auto& descriptor) { return descriptor.weights_desc(); });
    data_kernel_ = kernel(backward, Phase::backward);
    weights_copy_ = copy_unless_equal(backward.weights_desc(), true);
    delivery_ = deliver(site, 0);
  }

  memory::desc src_, dst_;

 private:
  struct Copy {
    Kernel reorder;
    memory::desc desc;
    std::size_t slot = 0;
  };
  std::optional<Copy> copy_unless_equal(const memory::desc& desc, bool from_arena);
  void bind_backward_weights(const Tensors& tensors);
  void bind_backward_data(const Tensors& tensors);
  memory view(const memory& tensor, const memory::desc& desc) const {
    return memory(desc, engine_, tensor.get_data_handle());
  }

  Kernel forward_kernel_, weights_kernel_;
  std::optional<Kernel> data_kernel_;
  std::optional<Copy> gradient_copy_, weights_copy_;
  Delivery delivery_;
};

}  // namespace nn::onednn
