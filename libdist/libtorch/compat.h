// SPDX-License-Identifier: Apache-2.0
// Internal: what differs between LibTorch versions, and nothing else; other files know no version.
// Tried with 1.13.1 and 2.15.0.
//
// Hooks stay on the gradient's accumulator in all versions: a PostAccumulateGradHook (2.1 on) has
// one place a tensor, which may be the program's.
#pragma once

#include <torch/csrc/autograd/variable.h>
#include <torch/version.h>

#include <utility>

namespace dist::libtorch {

/// Holds a node of the graph: a std::shared_ptr, in newer versions a c10::intrusive_ptr.
using NodePointer = decltype(torch::autograd::impl::grad_accumulator(
    std::declval<const torch::autograd::Variable&>()));

/// From 2.0 on zero_grad() drops the gradients unless asked not to: no breach of anything.
inline constexpr bool kZeroGradDrops = TORCH_VERSION_MAJOR >= 2;

}  // namespace dist::libtorch
