// SPDX-License-Identifier: Apache-2.0
// One way to train a LibTorch model on all ranks, for side-by-side timing.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libdist/dist.h"

namespace dist::bench {

/// A module and its loss on this rank's batch.
class Model {
 public:
  virtual ~Model() = default;
  virtual torch::nn::Module& module() = 0;
  virtual torch::Tensor loss() = 0;
};

class Contestant {
 public:
  explicit Contestant(std::unique_ptr<Model> model)
      : model_(std::move(model)), optimizer_(model_->module().parameters(), 0.01) {}
  virtual ~Contestant() = default;

  virtual std::string name() const = 0;

  /// Zero, forward, backward, exchange, update. What the exchange cost, where it is known.
  std::optional<StepReport> step() {
    optimizer_.zero_grad();
    backward();
    return update();
  }

  /// No step follows. Collective.
  virtual void end() {}

 protected:
  virtual void backward() { model_->loss().backward(); }
  virtual std::optional<StepReport> update() {
    optimizer_.step();
    return std::nullopt;
  }

  std::unique_ptr<Model> model_;
  torch::optim::SGD optimizer_;
};

using MakeModel = std::unique_ptr<Model> (*)();

/// The opponents from c10d over Gloo and loopback: "ddp", what PyTorch's DistributedDataParallel
/// runs (c10d::Reducer, gradients as views of its buckets), and "each", one all-reduce a parameter
/// after the backward pass, as in the official C++ example. `store` is a new path that all ranks
/// share.
std::vector<std::unique_ptr<Contestant>> make_c10d_contestants(MakeModel make_model, Rank rank,
                                                               int ranks, const std::string& store);

}  // namespace dist::bench
