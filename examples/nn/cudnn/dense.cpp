// SPDX-License-Identifier: Apache-2.0
// Dense with bias and the ReLU that follows it: a product with the input as it lies, pixels and
// padded channels; the weight lies alike.
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

class DenseOperation final : public Operation {
 public:
  DenseOperation(const Dense& options, const Site& site) : Operation(site), relu_(site.group.relu) {
    const Shape& in = site.shape_of_input();
    product_ = site.library.dense({.layer = site.node().name,
                                   .batch = site.options.batch,
                                   .ins = in.height * in.width * padded(in.channels),
                                   .outs = padded(options.out),
                                   .bias = options.bias,
                                   .relu = site.group.relu,
                                   .input_gradient = site.wanted[0]});
    need_workspace(product_->workspace_bytes());
    need_workspace(sum_scratch_bytes(extent_.channels));
  }

  std::string choice() const override { return product_->choice(); }

  void forward(dist::Stream stream, Mode) override {
    const Bias bias =
        t_.parameters.size() > 1 ? Bias{t_.parameters[1].values, t_.parameters[1].copy} : Bias{};
    product_->forward(stream, t_.x[0].data, t_.parameters[0].copy, bias, t_.y.data, t_.workspace);
  }

  void backward(dist::Stream stream) override {
    float* dbias = t_.parameters.size() > 1 ? t_.parameters[1].gradient : nullptr;
    bias_backward(stream, element_, extent_, t_.dy, relu_ ? t_.y : View{}, dbias, t_.workspace,
                  t_.state);
    product_->backward_weight(stream, t_.x[0].data, t_.dy.data, t_.parameters[0].gradient_copy,
                              t_.workspace);
    if (!t_.dx[0]) return;
    product_->backward_data(stream, t_.parameters[0].copy, t_.dy.data, t_.dx[0].view.data,
                            t_.dx[0].add, t_.workspace);
  }

 private:
  bool relu_;
  std::shared_ptr<DenseProduct> product_;
};

}  // namespace

OperationPtr make_dense(const Dense& options, const Site& site) {
  return std::make_unique<DenseOperation>(options, site);
}

}  // namespace nn::cudnn
