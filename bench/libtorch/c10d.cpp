// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>

#include "bench/libtorch/contestant.h"

namespace dist::bench {
namespace {

using Gloo = c10::intrusive_ptr<c10d::ProcessGroup>;

Gloo connect(Rank rank, int ranks, const std::string& store) {
  auto options = c10d::ProcessGroupGloo::Options::create();
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::FileStore>(store, ranks), rank, ranks, options);
}

// The constructor and the calls of torch/nn/parallel/distributed.py, version 1.13.
class Ddp final : public Contestant {
 public:
  Ddp(std::unique_ptr<Model> model, Gloo group) : Contestant(std::move(model)) {
    const auto parameters = model_->module().parameters();
    const std::vector<bool> sparse(parameters.size(), false);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        parameters, {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap}, sparse);
    std::reverse(buckets.begin(), buckets.end());
    std::reverse(limits.begin(), limits.end());
    reducer_ = std::make_unique<c10d::Reducer>(
        parameters, buckets, limits, group, sparse, c10d::kDefaultBucketBytesCap,
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true,
        std::unordered_map<std::size_t, std::string>{}, c10d::kDefaultFirstBucketBytes);
  }

  std::string name() const override { return "ddp"; }

 protected:
  void backward() override {
    reducer_->prepare_for_forward();
    if (reducer_->should_rebuild_buckets()) reducer_->rebuild_buckets();
    const auto loss = model_->loss();
    reducer_->prepare_for_backward({});
    loss.backward();
  }

  // Optimizer::zero_grad() refuses views; DDP's users in Python have the other one.
  std::optional<StepReport> update() override {
    Contestant::update();
    for (auto& parameter : model_->module().parameters()) parameter.mutable_grad().reset();
    return std::nullopt;
  }

 private:
  std::unique_ptr<c10d::Reducer> reducer_;
};

class Each final : public Contestant {
 public:
  Each(std::unique_ptr<Model> model, Gloo group, int ranks)
      : Contestant(std::move(model)), group_(std::move(group)), ranks_(ranks) {}

  std::string name() const override { return "each"; }

 protected:
  std::optional<StepReport> update() override {
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    for (auto& parameter : model_->module().parameters()) {
      std::vector<torch::Tensor> gradient = {parameter.grad()};
      works.push_back(group_->allreduce(gradient));
    }
    for (const auto& work : works) work->wait();
    for (auto& parameter : model_->module().parameters()) parameter.grad().div_(ranks_);
    return Contestant::update();
  }

 private:
  Gloo group_;
  int ranks_;
};

}  // namespace

std::vector<std::unique_ptr<Contestant>> make_c10d_contestants(MakeModel make_model, Rank rank,
                                                               int ranks,
                                                               const std::string& store) {
  std::vector<std::unique_ptr<Contestant>> contestants;
  contestants.push_back(std::make_unique<Ddp>(make_model(), connect(rank, ranks, store + ".ddp")));
  contestants.push_back(
      std::make_unique<Each>(make_model(), connect(rank, ranks, store + ".each"), ranks));
  return contestants;
}

}  // namespace dist::bench
