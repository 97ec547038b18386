// SPDX-License-Identifier: Apache-2.0
// Add, with the ReLU that follows it where there is one, and Concat: where branches meet. What lies
// within the joined tensor already needs no copy, in either direction.
#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {
namespace {

class AddOperation final : public Operation {
 public:
  explicit AddOperation(const Site& site) : Operation(site), relu_(site.group.relu) {}

  void forward(dist::Stream stream, Mode) override {
    add(stream, element_, extent_, t_.x[0], t_.x[1], t_.y, relu_);
  }
  void backward(dist::Stream stream) override {
    for (const Target& dx : t_.dx) {
      if (dx) pass_gradient(stream, element_, extent_, t_.dy, relu_ ? t_.y : View{}, dx);
    }
  }

 private:
  bool relu_;
};

class ConcatOperation final : public Operation {
 public:
  ConcatOperation(const Site& site, std::vector<bool> in_place)
      : Operation(site), in_place_(std::move(in_place)) {
    for (std::size_t k = 0; k < in_place_.size(); ++k) {
      channels_.push_back(site.shape_of_input(k).channels);
    }
  }

  void forward(dist::Stream stream, Mode) override {
    std::int64_t first = 0;
    for (std::size_t k = 0; k < channels_.size(); ++k) {
      // The last one fills the padding of the whole as well.
      const bool last = k + 1 == channels_.size();
      if (!in_place_[k]) {
        copy_channels(stream, element_, {extent_.pixels, channels_[k]}, t_.x[k],
                      {part(t_.y, first), false}, last ? extent_.channels - first : channels_[k]);
      }
      first += channels_[k];
    }
  }
  void backward(dist::Stream stream) override {
    std::int64_t first = 0;
    for (std::size_t k = 0; k < channels_.size(); ++k) {
      if (t_.dx[k] && !in_place_[k]) {
        copy_channels(stream, element_, {extent_.pixels, channels_[k]}, part(t_.dy, first),
                      t_.dx[k], padded(channels_[k]));
      }
      first += channels_[k];
    }
  }

 private:
  View part(const View& whole, std::int64_t channel) const {
    return {static_cast<std::byte*>(whole.data) +
                static_cast<std::uint64_t>(channel) * bytes_of(element_),
            whole.pitch};
  }

  std::vector<bool> in_place_;
  std::vector<std::int64_t> channels_;
};

}  // namespace

OperationPtr make_add(const Site& site) { return std::make_unique<AddOperation>(site); }
OperationPtr make_concat(const Site& site, std::vector<bool> in_place) {
  return std::make_unique<ConcatOperation>(site, std::move(in_place));
}

}  // namespace nn::cudnn
