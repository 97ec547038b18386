// SPDX-License-Identifier: Apache-2.0
// Softmax, mean cross-entropy and their gradient at once: when training, the gradient of the logits
// is written as soon as they are read.
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

class SoftmaxLossOperation final : public Operation {
 public:
  explicit SoftmaxLossOperation(const Site& site)
      : Operation(site), batch_(site.options.batch), classes_(site.shape().channels) {
    need_workspace(2 * static_cast<std::uint64_t>(batch_) * sizeof(double));
  }

  void forward(dist::Stream stream, Mode mode) override {
    softmax_loss(stream, element_,
                 {.batch = batch_,
                  .classes = classes_,
                  .x = t_.x[0],
                  .dx = mode == Mode::train ? t_.dx[0].view : View{},
                  .labels = t_.labels,
                  .losses = static_cast<double*>(t_.workspace),
                  .state = t_.state});
  }
  void backward(dist::Stream) override {}

 private:
  std::int64_t batch_, classes_;
};

}  // namespace

OperationPtr make_softmax_loss(const Site& site) {
  return std::make_unique<SoftmaxLossOperation>(site);
}

}  // namespace nn::cudnn
