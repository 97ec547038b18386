// SPDX-License-Identifier: Apache-2.0
// Softmax and mean cross-entropy in own loops: the loss is summed in double, and batch * classes
// values are nothing beside the layers before.
#include <algorithm>
#include <cmath>

#include "examples/nn/onednn/layers.h"
#include "libdist/check.h"

namespace nn::onednn {
namespace {

class Softmax final : public SoftmaxLossOperation {
 public:
  explicit Softmax(const Site& site)
      : SoftmaxLossOperation(site), batch_(site.batch), classes_(site.node().shape.channels) {
    output_ = plain_desc(site.output_dims());
    to_plain_ = reorder_kernel(site.in[0], output_, Phase::forward);
    wanted_ = site.routes[0].wanted;
    if (!wanted_) return;
    gradient_slot_ = reserve(output_.get_size(), Phase::backward);
    from_plain_ = reorder_kernel(output_, site.in[0], Phase::backward);
    delivery_ = deliver(site, 0);
  }

  void bind(const Tensors& t) override {
    forward_.push_back(step(to_plain_, t, {{DNNL_ARG_FROM, t.x[0]}, {DNNL_ARG_TO, t.y}}));
    probabilities_ = static_cast<float*>(t.y.get_data_handle());
    if (!wanted_) return;
    const memory gradient = workspace(t, gradient_slot_, output_);
    gradient_ = static_cast<float*>(gradient.get_data_handle());
    backward_inputs_.push_back(
        step(from_plain_, t, {{DNNL_ARG_FROM, gradient}, {DNNL_ARG_TO, target(delivery_, t)}}));
    finish(delivery_, t, backward_inputs_);
  }

  void set_labels(std::span<const std::int32_t> labels) override {
    DIST_ASSERT(static_cast<std::int64_t>(labels.size()) == batch_, "one label an image");
    labels_.assign(labels.begin(), labels.end());
  }
  double loss() const override { return loss_; }
  double accuracy() const override {
    return static_cast<double>(right_) / static_cast<double>(batch_);
  }

  void forward(dnnl::stream& stream, Mode) override {
    run(forward_, stream);
    loss_ = 0;
    right_ = 0;
    for (std::int64_t n = 0; n < batch_; ++n) {
      loss_ += normalize(probabilities_ + n * classes_, labels_[static_cast<std::size_t>(n)]);
    }
    loss_ /= static_cast<double>(batch_);
  }

  void backward_inputs(dnnl::stream& stream) override {
    if (!wanted_) return;
    const float scale = 1.0f / static_cast<float>(batch_);
    for (std::int64_t n = 0; n < batch_; ++n) {
      for (std::int64_t c = 0; c < classes_; ++c) {
        const float target = c == labels_[static_cast<std::size_t>(n)] ? 1.0f : 0.0f;
        gradient_[n * classes_ + c] = (probabilities_[n * classes_ + c] - target) * scale;
      }
    }
    run(backward_inputs_, stream);
  }

 private:
  // Logits to probabilities in place; returns the cross-entropy. Counts what is right.
  double normalize(float* x, std::int32_t label) {
    DIST_ASSERT(label >= 0 && label < classes_, "a label outside [0, classes)");
    const float* top = std::max_element(x, x + classes_);
    right_ += top - x == label ? 1 : 0;
    const double largest = static_cast<double>(*top);
    double sum = 0;
    for (std::int64_t c = 0; c < classes_; ++c)
      sum += std::exp(static_cast<double>(x[c]) - largest);
    const double log_sum = largest + std::log(sum);
    const double loss = log_sum - static_cast<double>(x[label]);
    for (std::int64_t c = 0; c < classes_; ++c) {
      x[c] = static_cast<float>(std::exp(static_cast<double>(x[c]) - log_sum));
    }
    return loss;
  }

  std::int64_t batch_, classes_;
  std::vector<std::int32_t> labels_;
  double loss_ = 0;
  std::int64_t right_ = 0;
  Kernel to_plain_, from_plain_;
  std::size_t gradient_slot_ = 0;
  bool wanted_ = false;
  Delivery delivery_;
  float* probabilities_ = nullptr;
  float* gradient_ = nullptr;
};

}  // namespace

std::unique_ptr<SoftmaxLossOperation> make_softmax_loss(const Site& site) {
  return std::make_unique<Softmax>(site);
}

}  // namespace nn::onednn
