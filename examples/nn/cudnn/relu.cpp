// SPDX-License-Identifier: Apache-2.0
// A ReLU that no layer before it could take in.
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

class ReluOperation final : public Operation {
 public:
  using Operation::Operation;

  void forward(dist::Stream stream, Mode) override {
    add(stream, element_, extent_, t_.x[0], {}, t_.y, true);
  }
  void backward(dist::Stream stream) override {
    if (t_.dx[0]) pass_gradient(stream, element_, extent_, t_.dy, t_.y, t_.dx[0]);
  }
};

}  // namespace

OperationPtr make_relu(const Site& site) { return std::make_unique<ReluOperation>(site); }

}  // namespace nn::cudnn
