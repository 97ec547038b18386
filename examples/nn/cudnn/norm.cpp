// SPDX-License-Identifier: Apache-2.0
// Batch norm with the ReLU, or the Add and the ReLU, that follow it, forward and backward. Backward
// reads one bit an element for the ReLU.
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

class BatchNormOperation final : public Operation {
 public:
  BatchNormOperation(const BatchNorm& options, const Site& site)
      : Operation(site), options_(options), relu_(site.group.relu) {
    const std::uint64_t values = static_cast<std::uint64_t>(extent_.channels) * sizeof(float);
    mean_ = keep({values, true, 0});
    variance_ = keep({values, true, 1});
    saved_ = keep(4 * values);
    if (relu_) mask_ = keep(mask_bytes());
    coefficients_ = sum_scratch_bytes(extent_.channels);
    need_workspace(coefficients_ + 4 * values);
  }

  void forward(dist::Stream stream, Mode mode) override {
    NormForward call;
    call.extent = extent_;
    call.x = t_.x[0];
    if (t_.x.size() > 1) call.z = t_.x[1];
    call.y = t_.y;
    call.relu = relu_;
    if (relu_) call.mask = bytes_at(mask_);
    call.gamma = t_.parameters[0].values;
    call.beta = t_.parameters[1].values;
    call.running_mean = static_cast<float*>(t_.kept[mean_]);
    call.running_variance = static_cast<float*>(t_.kept[variance_]);
    call.saved = static_cast<float*>(t_.kept[saved_]);
    call.scratch = t_.workspace;
    call.epsilon = options_.epsilon;
    call.momentum = options_.momentum;
    if (mode == Mode::train) {
      norm_train(stream, element_, call);
    } else {
      call.mask = nullptr;
      norm_evaluate(stream, element_, call);
    }
  }

  void backward(dist::Stream stream) override {
    NormBackward call;
    call.extent = extent_;
    call.x = t_.x[0];
    call.dy = t_.dy;
    call.dx = t_.dx[0];
    if (t_.dx.size() > 1) call.dz = t_.dx[1];
    if (relu_) call.mask = bytes_at(mask_);
    call.gamma = t_.parameters[0].values;
    call.saved = static_cast<const float*>(t_.kept[saved_]);
    call.dgamma = t_.parameters[0].gradient;
    call.dbeta = t_.parameters[1].gradient;
    call.coefficients =
        reinterpret_cast<float*>(static_cast<std::byte*>(t_.workspace) + coefficients_);
    call.scratch = t_.workspace;
    call.state = t_.state;
    norm_backward(stream, element_, call);
  }

 private:
  BatchNorm options_;
  bool relu_;
  std::size_t mean_ = 0, variance_ = 0, saved_ = 0, mask_ = 0;
  std::uint64_t coefficients_ = 0;  // bytes into the workspace
};

}  // namespace

OperationPtr make_batch_norm(const BatchNorm& options, const Site& site) {
  return std::make_unique<BatchNormOperation>(options, site);
}

}  // namespace nn::cudnn
