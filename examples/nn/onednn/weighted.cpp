// SPDX-License-Identifier: Apache-2.0
// The steps of a layer with weights.
#include "examples/nn/onednn/weighted.h"

#include <utility>

namespace nn::onednn {

std::optional<WeightedOperation::Copy> WeightedOperation::copy_unless_equal(
    const memory::desc& desc, bool from_arena) {
  const memory::desc& arena = parameters_[0];
  if (desc == arena) return std::nullopt;
  return Copy{from_arena ? reorder_kernel(arena, desc, Phase::backward)
                         : reorder_kernel(desc, arena, Phase::backward),
              desc, reserve(desc.get_size(), Phase::backward)};
}

void WeightedOperation::bind(const Tensors& t) {
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, view(t.x[0], src_)},
                                            {DNNL_ARG_WEIGHTS, t.parameters[0]},
                                            {DNNL_ARG_DST, view(t.y, dst_)}};
  if (t.parameters.size() > 1) arguments.insert({DNNL_ARG_BIAS, t.parameters[1]});
  forward_.push_back(step(forward_kernel_, t, std::move(arguments)));
  bind_backward_weights(t);
  if (data_kernel_) bind_backward_data(t);
}

void WeightedOperation::bind_backward_weights(const Tensors& t) {
  const memory gradient =
      gradient_copy_ ? workspace(t, gradient_copy_->slot, gradient_copy_->desc) : t.gradients[0];
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, view(t.x[0], src_)},
                                            {DNNL_ARG_DIFF_DST, view(t.dy, dst_)},
                                            {DNNL_ARG_DIFF_WEIGHTS, gradient}};
  if (t.gradients.size() > 1) arguments.insert({DNNL_ARG_DIFF_BIAS, t.gradients[1]});
  backward_parameters_.push_back(step(weights_kernel_, t, std::move(arguments)));
  if (gradient_copy_) {
    backward_parameters_.push_back(step(
        gradient_copy_->reorder, t, {{DNNL_ARG_FROM, gradient}, {DNNL_ARG_TO, t.gradients[0]}}));
  }
}

void WeightedOperation::bind_backward_data(const Tensors& t) {
  memory weights = t.parameters[0];
  if (weights_copy_) {
    weights = workspace(t, weights_copy_->slot, weights_copy_->desc);
    backward_inputs_.push_back(step(weights_copy_->reorder, t,
                                    {{DNNL_ARG_FROM, t.parameters[0]}, {DNNL_ARG_TO, weights}}));
  }
  backward_inputs_.push_back(step(*data_kernel_, t,
                                  {{DNNL_ARG_DIFF_DST, view(t.dy, dst_)},
                                   {DNNL_ARG_WEIGHTS, weights},
                                   {DNNL_ARG_DIFF_SRC, view(target(delivery_, t), src_)}}));
  finish(delivery_, t, backward_inputs_);
}

}  // namespace nn::onednn
