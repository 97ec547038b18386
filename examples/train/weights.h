// SPDX-License-Identifier: Apache-2.0
// A replica's parameters as other programs read them.
#pragma once

#include <cstddef>
#include <vector>

#include "examples/nn/network.h"

namespace train {

/// The file format safetensors (https://huggingface.co/docs/safetensors): eight bytes with the
/// length of a JSON object that says name, type, shape and place of each tensor, the object, the
/// tensors. Forward order, plain layout (conv oihw, dense oi), the network's own type. PyTorch
/// reads it by safetensors.torch.load_file().
std::vector<std::byte> safetensors(const nn::Network& network);

}  // namespace train
