// SPDX-License-Identifier: Apache-2.0
// Add, with the ReLU that follows it where there is one, and Concat: where branches meet.
#include "examples/nn/onednn/layers.h"

namespace nn::onednn {
namespace {

class AddOperation final : public Operation {
 public:
  explicit AddOperation(const Site& site) : Operation(site), routes_(site.routes) {
    // An input whose gradient is this node's own, byte for byte, must have the same layout.
    output_ = site.in[routes_[1].shared ? 1 : 0];
    forward_kernel_ =
        kernel(describe<dnnl::binary>(engine_, attributes(site.relu_follows),
                                      dnnl::algorithm::binary_add, site.in[0], site.in[1], output_),
               Phase::forward);
    for (std::size_t k = 0; k < 2; ++k) {
      if (!routes_[k].wanted || routes_[k].shared) continue;
      deliver_[k] =
          routes_[k].add
              ? kernel(describe_sum(engine_, site.in[k], {site.in[k], output_}), Phase::backward)
              : reorder_kernel(output_, site.in[k], Phase::backward);
    }
  }

  void bind(const Tensors& t) override {
    forward_.push_back(
        step(forward_kernel_, t,
             {{DNNL_ARG_SRC_0, t.x[0]}, {DNNL_ARG_SRC_1, t.x[1]}, {DNNL_ARG_DST, t.y}}));
    for (std::size_t k = 0; k < 2; ++k) {
      if (!routes_[k].wanted || routes_[k].shared) continue;
      if (routes_[k].add) {
        backward_inputs_.push_back(step(deliver_[k], t,
                                        {{DNNL_ARG_MULTIPLE_SRC, t.dx[k]},
                                         {DNNL_ARG_MULTIPLE_SRC + 1, t.dy},
                                         {DNNL_ARG_DST, t.dx[k]}}));
      } else {
        backward_inputs_.push_back(
            step(deliver_[k], t, {{DNNL_ARG_FROM, t.dy}, {DNNL_ARG_TO, t.dx[k]}}));
      }
    }
  }

 private:
  std::vector<GradientRoute> routes_;
  Kernel forward_kernel_;
  Kernel deliver_[2];
};

class ConcatOperation final : public Operation {
 public:
  explicit ConcatOperation(const Site& site) : Operation(site) {
    auto forward = describe_concat(engine_, site.in);
    output_ = forward.dst_desc();
    if (!cut(site)) {  // a branch begins inside a block of channels
      output_ = plain_desc(site.output_dims());
      forward = describe_concat(engine_, output_, site.in);
      cut(site);
    }
    forward_kernel_ = kernel(forward, Phase::forward);
    for (std::size_t k = 0; k < site.in.size(); ++k) {
      if (!site.routes[k].wanted) continue;
      branches_.push_back(
          {k, reorder_kernel(parts_[k], site.in[k], Phase::backward), deliver(site, k)});
    }
  }

  void bind(const Tensors& t) override {
    std::unordered_map<int, memory> arguments{{DNNL_ARG_DST, t.y}};
    for (std::size_t k = 0; k < t.x.size(); ++k) {
      arguments.insert({DNNL_ARG_MULTIPLE_SRC + static_cast<int>(k), t.x[k]});
    }
    forward_.push_back(step(forward_kernel_, t, std::move(arguments)));
    for (const Branch& branch : branches_) {
      const memory part(parts_[branch.input], engine_, t.dy.get_data_handle());
      backward_inputs_.push_back(step(
          branch.reorder, t, {{DNNL_ARG_FROM, part}, {DNNL_ARG_TO, target(branch.delivery, t)}}));
      finish(branch.delivery, t, backward_inputs_);
    }
  }

 private:
  struct Branch {
    std::size_t input = 0;
    Kernel reorder;
    Delivery delivery;
  };

  // The part of the output that each input makes; false where the layout has no such part.
  bool cut(const Site& site) {
    parts_.clear();
    memory::dims offset{0, 0, 0, 0};
    try {
      for (const memory::desc& in : site.in) {
        parts_.push_back(output_.submemory_desc(dims_of(in), offset));
        offset[1] += dims_of(in)[1];
      }
    } catch (const dnnl::error&) {
      return false;
    }
    return true;
  }

  std::vector<memory::desc> parts_;
  std::vector<Branch> branches_;
  Kernel forward_kernel_;
};

}  // namespace

OperationPtr make_add(const Site& site) { return std::make_unique<AddOperation>(site); }
OperationPtr make_concat(const Site& site) { return std::make_unique<ConcatOperation>(site); }

}  // namespace nn::onednn
