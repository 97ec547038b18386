// SPDX-License-Identifier: Apache-2.0
// Internal: a module's trainable tensors, aliased into an arena. Aliases share storage without
// being autograd views, so that zero_grad() and optimizers work on them.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/libtorch/libtorch.h"
#include "libdist/status.h"

namespace dist::libtorch {

/// One parameter and where it belongs.
struct Entry {
  std::string name;
  torch::Tensor tensor;
  torch::Tensor value;     // alias of its slot in the arena's parameters, of the right strides
  torch::Tensor gradient;  // the same in the arena's gradients
};

/// The module's trainable parameters in order of registration, shared ones once, no slots yet.
/// Errors as attach().
Result<std::vector<Entry>> find_parameters(torch::nn::Module& module);

/// Whether a tensor of this name may lie in an arena.
Status check_parameter(const std::string& name, const torch::Tensor& tensor);

/// Of an entry that may: f32 or f64.
DType type_of(const Entry& entry);

/// What a module's ranks must have equal besides: buffers and frozen parameters. Shared ones once.
std::vector<torch::Tensor> find_constants(torch::nn::Module& module);

/// An arena for entries of one type and device, entry `order[k]` in slot k, where `place` says
/// (without a device: in host memory). Parameters and gradients are copied there and the tensors
/// made aliases; the memory lives as long as any of them.
Result<std::shared_ptr<Arena>> lay_out(std::vector<Entry>& entries,
                                       const std::vector<std::size_t>& order,
                                       const Accelerator& place);

/// Whether the tensor could be a slot's alias again: same type, device and sizes.
bool fits(const Entry& entry);

/// Copies the tensor's values to its slot and makes it the alias it was.
void realias_parameter(Entry& entry);

/// The same for its gradient; an undefined one becomes zeros.
void realias_gradient(Entry& entry);

/// Pointer compares, once a step and parameter.
bool parameter_in_place(const Entry& entry);
bool gradient_in_place(const Entry& entry);

}  // namespace dist::libtorch
