// SPDX-License-Identifier: Apache-2.0
// Inverted dropout. The mask is a pure function of (seed, node, train step, element): nothing is
// kept for backward, which makes it again.
#include "examples/nn/random.h"
#include "examples/nn/ref/layers.h"

namespace nn::ref {
namespace {

template <typename T>
class DropoutOperation final : public Operation<T> {
 public:
  DropoutOperation(const Dropout& options, const Geometry& geometry, std::uint64_t seed,
                   std::size_t node)
      : rate_(options.rate), count_(geometry.out_elements()), seed_(seed), node_(node) {}

  void forward(const Tensors<T>& t, Mode mode) override {
    if (mode == Mode::evaluate) {
      for (std::int64_t i = 0; i < count_; ++i) t.y[i] = t.x[0][i];
      return;
    }
    ++step_;
    for (std::int64_t i = 0; i < count_; ++i) t.y[i] = t.x[0][i] * factor(i);
  }

  void backward(const Tensors<T>& t) override {
    if (t.dx[0].data == nullptr) return;
    for (std::int64_t i = 0; i < count_; ++i) t.dx[0].put(i, t.dy[i] * factor(i));
  }

  void resume_at(std::uint64_t step) override { step_ = step; }

 private:
  T factor(std::int64_t i) const {
    if (rate_ == 0) return T(1);
    const std::uint64_t stream = mix64(mix64(node_) + step_);
    const bool keep = random_uniform(seed_, stream, static_cast<std::uint64_t>(i)) >= rate_;
    return keep ? static_cast<T>(1.0 / (1.0 - rate_)) : T(0);
  }

  double rate_;
  std::int64_t count_;
  std::uint64_t seed_, node_;
  std::uint64_t step_ = 0;
};

}  // namespace

template <typename T>
OperationPtr<T> make_dropout(const Dropout& options, const Geometry& geometry, std::uint64_t seed,
                             std::size_t node) {
  return std::make_unique<DropoutOperation<T>>(options, geometry, seed, node);
}
template OperationPtr<float> make_dropout(const Dropout&, const Geometry&, std::uint64_t,
                                          std::size_t);
template OperationPtr<double> make_dropout(const Dropout&, const Geometry&, std::uint64_t,
                                           std::size_t);

}  // namespace nn::ref
