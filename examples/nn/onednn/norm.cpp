// SPDX-License-Identifier: Apache-2.0
// Batch normalisation, forward and backward with the ReLU that follows it where there is one.
// Backward reads one bit an element for that ReLU.
#include <algorithm>

#include "examples/nn/onednn/layers.h"

namespace nn::onednn {
namespace {

using dnnl::normalization_flags;

class BatchNormOperation final : public Operation {
 public:
  BatchNormOperation(const BatchNorm& options, const Site& site)
      : Operation(site), momentum_(static_cast<float>(options.momentum)) {
    const memory::desc& data = site.in[0];
    const memory::dims dims = dims_of(data);
    count_ = static_cast<float>(dims[0] * dims[2] * dims[3]);
    const memory::desc channel = plain_desc({dims[1]});
    const auto epsilon = static_cast<float>(options.epsilon);
    normalization_flags flags = normalization_flags::use_scale | normalization_flags::use_shift;
    if (site.relu_follows) flags |= normalization_flags::fuse_norm_relu;

    const auto train =
        describe_batch_norm(engine_, dnnl::prop_kind::forward_training, data, epsilon, flags);
    const auto evaluate =
        describe_batch_norm(engine_, dnnl::prop_kind::forward_inference, data, epsilon,
                            flags | normalization_flags::use_global_stats);
    output_ = data;
    parameters_ = {channel, channel};
    train_kernel_ = kernel(train, Phase::forward);
    evaluate_kernel_ = kernel(evaluate, Phase::forward);
    // A node of the training plan always passes a gradient on, except behind the images.
    backward_kernel_ =
        kernel(describe_batch_norm_backward(engine_, train, data, epsilon, flags), Phase::backward);
    if (site.relu_follows) signs_ = train.workspace_desc();
    signs_slot_ = reserve(signs_.get_size(), Phase::step);
    if (site.routes[0].wanted) {
      delivery_ = deliver(site, 0);
    } else {
      unwanted_slot_ = reserve(data.get_size(), Phase::backward);
    }
    wanted_ = site.routes[0].wanted;
    for (memory* statistic : {&mean_, &variance_, &running_mean_, &running_variance_}) {
      *statistic = memory(channel, engine_);
    }
    std::fill_n(values(running_mean_), dims[1], 0.0f);
    std::fill_n(values(running_variance_), dims[1], 1.0f);
    channels_ = dims[1];
  }

  void bind(const Tensors& t) override {
    std::unordered_map<int, memory> evaluate{{DNNL_ARG_SRC, t.x[0]},
                                             {DNNL_ARG_DST, t.y},
                                             {DNNL_ARG_SCALE, t.parameters[0]},
                                             {DNNL_ARG_SHIFT, t.parameters[1]},
                                             {DNNL_ARG_MEAN, running_mean_},
                                             {DNNL_ARG_VARIANCE, running_variance_}};
    std::unordered_map<int, memory> train = evaluate;
    train[DNNL_ARG_MEAN] = mean_;
    train[DNNL_ARG_VARIANCE] = variance_;
    std::unordered_map<int, memory> backward{
        {DNNL_ARG_SRC, t.x[0]},
        {DNNL_ARG_DIFF_DST, t.dy},
        {DNNL_ARG_SCALE, t.parameters[0]},
        {DNNL_ARG_SHIFT, t.parameters[1]},
        {DNNL_ARG_MEAN, mean_},
        {DNNL_ARG_VARIANCE, variance_},
        {DNNL_ARG_DIFF_SRC, wanted_ ? target(delivery_, t) : workspace(t, unwanted_slot_, output_)},
        {DNNL_ARG_DIFF_SCALE, t.gradients[0]},
        {DNNL_ARG_DIFF_SHIFT, t.gradients[1]}};
    if (signs_.get_size() > 0) {
      const memory signs = workspace(t, signs_slot_, signs_);
      train.insert({DNNL_ARG_WORKSPACE, signs});
      backward.insert({DNNL_ARG_WORKSPACE, signs});
    }
    forward_.push_back(step(train_kernel_, t, std::move(train)));
    evaluate_.push_back(step(evaluate_kernel_, t, std::move(evaluate)));
    backward_parameters_.push_back(step(backward_kernel_, t, std::move(backward)));
    if (wanted_) finish(delivery_, t, backward_inputs_);
  }

  void forward(dnnl::stream& stream, Mode mode) override {
    if (mode == Mode::evaluate) {
      run(evaluate_, stream);
      return;
    }
    run(forward_, stream);
    const float unbiased = count_ / std::max(count_ - 1.0f, 1.0f);
    float* mean = values(running_mean_);
    float* variance = values(running_variance_);
    for (memory::dim c = 0; c < channels_; ++c) {
      mean[c] += momentum_ * (values(mean_)[c] - mean[c]);
      variance[c] += momentum_ * (values(variance_)[c] * unbiased - variance[c]);
    }
  }

 private:
  static float* values(const memory& statistic) {
    return static_cast<float*>(statistic.get_data_handle());
  }

  float momentum_;
  float count_ = 0;  // values a channel
  memory::dim channels_ = 0;
  memory mean_, variance_, running_mean_, running_variance_;
  Kernel train_kernel_, evaluate_kernel_, backward_kernel_;
  memory::desc signs_;
  std::size_t signs_slot_ = 0, unwanted_slot_ = 0;
  bool wanted_ = false;
  Delivery delivery_;
  Steps evaluate_;
};

}  // namespace

OperationPtr make_batch_norm(const BatchNorm& options, const Site& site) {
  return std::make_unique<BatchNormOperation>(options, site);
}

}  // namespace nn::onednn
