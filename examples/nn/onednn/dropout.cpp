// SPDX-License-Identifier: Apache-2.0
// Inverted dropout: both directions multiply by the same factors, which are made in plain order by
// the counter-based generator, as in the ref backend, and then reordered into the tensor's layout.
#include "examples/nn/onednn/layers.h"
#include "examples/nn/random.h"

namespace nn::onednn {
namespace {

class DropoutOperation final : public Operation {
 public:
  DropoutOperation(const Dropout& options, const Site& site, std::uint64_t seed)
      : Operation(site),
        rate_(options.rate),
        seed_(seed),
        node_(site.index),
        count_(static_cast<std::uint64_t>(site.batch * site.node().shape.elements())),
        plain_(plain_desc(site.output_dims())) {
    output_ = site.in[0];
    const auto multiply = describe<dnnl::binary>(engine_, attributes(), dnnl::algorithm::binary_mul,
                                                 output_, output_, output_);
    factors_slot_ = reserve(output_.get_size(), Phase::step);
    made_plain_ = lies_plain(output_);
    if (!made_plain_) {
      plain_slot_ = reserve(plain_.get_size(), Phase::forward);
      reorder_kernel_ = reorder_kernel(plain_, output_, Phase::forward);
    }
    forward_kernel_ = kernel(multiply, Phase::forward);
    wanted_ = site.routes[0].wanted;
    if (!wanted_) return;
    backward_kernel_ = kernel(multiply, Phase::backward);
    delivery_ = deliver(site, 0);
  }

  void bind(const Tensors& t) override {
    const memory factors = workspace(t, factors_slot_, output_);
    memory plain = factors;
    if (!made_plain_) {
      plain = workspace(t, plain_slot_, plain_);
      forward_.push_back(
          step(reorder_kernel_, t, {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, factors}}));
    }
    values_ = static_cast<float*>(plain.get_data_handle());
    forward_.push_back(
        step(forward_kernel_, t,
             {{DNNL_ARG_SRC_0, t.x[0]}, {DNNL_ARG_SRC_1, factors}, {DNNL_ARG_DST, t.y}}));
    if (!wanted_) return;
    backward_inputs_.push_back(step(
        backward_kernel_, t,
        {{DNNL_ARG_SRC_0, t.dy}, {DNNL_ARG_SRC_1, factors}, {DNNL_ARG_DST, target(delivery_, t)}}));
    finish(delivery_, t, backward_inputs_);
  }

  void forward(dnnl::stream& stream, Mode mode) override {
    if (mode == Mode::train) ++step_;
    const std::uint64_t random = mix64(mix64(node_) + step_);
    const auto kept = static_cast<float>(1.0 / (1.0 - rate_));
    for (std::uint64_t i = 0; i < count_; ++i) {
      if (mode == Mode::evaluate || rate_ == 0) {
        values_[i] = 1.0f;
      } else {
        values_[i] = random_uniform(seed_, random, i) >= rate_ ? kept : 0.0f;
      }
    }
    run(forward_, stream);
  }

  void resume_at(std::uint64_t step) override { step_ = step; }

 private:
  double rate_;
  std::uint64_t seed_, node_, count_;
  std::uint64_t step_ = 0;
  memory::desc plain_;
  bool made_plain_ = false;
  bool wanted_ = false;
  Kernel reorder_kernel_, forward_kernel_, backward_kernel_;
  std::size_t factors_slot_ = 0, plain_slot_ = 0;
  Delivery delivery_;
  float* values_ = nullptr;
};

}  // namespace

OperationPtr make_dropout(const Dropout& options, const Site& site, std::uint64_t seed) {
  return std::make_unique<DropoutOperation>(options, site, seed);
}

}  // namespace nn::onednn
