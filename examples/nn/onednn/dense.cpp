// SPDX-License-Identifier: Apache-2.0
// Dense, with the ReLU that follows it where there is one. The weight has the dimensions of the
// input's image, so that a blocked image is read as it lies.
#include "examples/nn/onednn/weighted.h"

namespace nn::onednn {
namespace {

class DenseOperation final : public WeightedOperation {
 public:
  DenseOperation(const Dense& options, const Site& site) : WeightedOperation(site) {
    memory::dims weight_dims = dims_of(site.in[0]);
    memory::desc src = site.in[0];
    if (weight_dims[2] == 1 && weight_dims[3] == 1 && lies_plain(src)) {
      weight_dims.resize(2);
      src = plain_desc(weight_dims);
    }
    weight_dims[0] = options.out;
    const memory::desc dst = plain_desc({site.batch, options.out});
    const memory::desc bias = options.bias ? plain_desc({options.out}) : memory::desc();

    const auto forward = describe<dnnl::inner_product_forward>(
        engine_, attributes(site.relu_follows), dnnl::prop_kind::forward_training, src,
        any_desc(weight_dims), bias, dst);
    plan_forward(forward, src, options.bias);
    output_ = plain_desc(site.output_dims());
    plan_backward_weights([&](const memory::desc& weights) {
      return describe_backward<dnnl::inner_product_backward_weights>(engine_, forward, src, weights,
                                                                     bias, dst);
    });
    plan_backward_data(site, [&](const memory::desc& weights) {
      return describe_backward<dnnl::inner_product_backward_data>(engine_, forward, src, weights,
                                                                  dst);
    });
  }
};

}  // namespace

OperationPtr make_dense(const Dense& options, const Site& site) {
  return std::make_unique<DenseOperation>(options, site);
}

}  // namespace nn::onednn
