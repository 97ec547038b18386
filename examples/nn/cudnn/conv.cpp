// SPDX-License-Identifier: Apache-2.0
// Convolution with bias and the ReLU that follows it.
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

Shape padded_shape(const Shape& s) { return {padded(s.channels), s.height, s.width}; }

class ConvOperation final : public Operation {
 public:
  ConvOperation(const Conv& options, const Site& site)
      : Operation(site),
        relu_(site.group.relu),
        convolution_(site.library.convolution({.layer = site.node().name,
                                               .batch = site.options.batch,
                                               .in = padded_shape(site.shape_of_input()),
                                               .out = padded_shape(site.shape()),
                                               .window = options.window,
                                               .bias = options.bias,
                                               .relu = site.group.relu,
                                               .input_gradient = site.wanted[0]})) {
    need_workspace(convolution_->workspace_bytes());
    need_workspace(sum_scratch_bytes(extent_.channels));
  }

  std::string choice() const override { return convolution_->choice(); }

  void forward(dist::Stream stream, Mode) override {
    convolution_->forward(stream, t_.x[0].data, t_.parameters[0].copy, bias(), t_.y.data,
                          t_.workspace);
  }

  void backward(dist::Stream stream) override {
    float* dbias = t_.parameters.size() > 1 ? t_.parameters[1].gradient : nullptr;
    bias_backward(stream, element_, extent_, t_.dy, relu_ ? t_.y : View{}, dbias, t_.workspace,
                  t_.state);
    convolution_->backward_weight(stream, t_.x[0].data, t_.dy.data, t_.parameters[0].gradient_copy,
                                  t_.workspace);
    if (!t_.dx[0]) return;
    convolution_->backward_data(stream, t_.parameters[0].copy, t_.dy.data, t_.dx[0].view.data,
                                t_.dx[0].add, t_.workspace);
  }

 private:
  Bias bias() const {
    if (t_.parameters.size() < 2) return {};
    return {t_.parameters[1].values, t_.parameters[1].copy};
  }

  bool relu_;
  std::shared_ptr<Convolution> convolution_;
};

}  // namespace

OperationPtr make_conv(const Conv& options, const Site& site) {
  return std::make_unique<ConvOperation>(options, site);
}

}  // namespace nn::cudnn
