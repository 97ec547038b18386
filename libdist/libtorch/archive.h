// SPDX-License-Identifier: Apache-2.0
// Internal: what a checkpoint holds of a LibTorch program beside the arena, as files of
// torch::save.
#pragma once

#include <torch/optim/optimizer.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "libdist/checkpoint/checkpoints.h"
#include "libdist/status.h"

namespace dist::libtorch {

CheckpointFile pack_tensors(const std::vector<torch::Tensor>& tensors);
CheckpointFile pack_optimizer(const torch::optim::Optimizer& optimizer);

/// Out of the checkpoint at `path`; tensors are overwritten in place, the optimizer's are made on
/// `device`. Errors: files that cannot be read, or are of another model.
Status unpack_tensors(const std::string& path, const std::vector<torch::Tensor>& tensors);
Status unpack_optimizer(const std::string& path, torch::optim::Optimizer& optimizer,
                        torch::Device device);

}  // namespace dist::libtorch
