// SPDX-License-Identifier: Apache-2.0
// Inverted dropout. The mask is made anew in each train step from the step's number, which the
// device counts.
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

class DropoutOperation final : public Operation {
 public:
  DropoutOperation(const Dropout& options, const Site& site)
      : Operation(site),
        shape_{.batch = site.options.batch,
               .channels = site.shape().channels,
               .height = site.shape().height,
               .width = site.shape().width,
               .rate = options.rate,
               .seed = site.options.dropout_seed,
               .node = site.group.node},
        mask_(keep(mask_bytes())) {}

  void forward(dist::Stream stream, Mode mode) override {
    if (mode == Mode::train) {
      dropout(stream, element_, shape_, t_.x[0], t_.y, bytes_at(mask_), t_.state);
    } else {
      add(stream, element_, extent_, t_.x[0], {}, t_.y, false);
    }
  }
  void backward(dist::Stream stream) override {
    if (t_.dx[0]) {
      dropout_backward(stream, element_, shape_, t_.dy, bytes_at(mask_), t_.dx[0]);
    }
  }

 private:
  DropoutShape shape_;
  std::size_t mask_;
};

}  // namespace

OperationPtr make_dropout(const Dropout& options, const Site& site) {
  return std::make_unique<DropoutOperation>(options, site);
}

}  // namespace nn::cudnn
