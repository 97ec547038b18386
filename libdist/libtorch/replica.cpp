// SPDX-License-Identifier: Apache-2.0
#include "libdist/libtorch/replica.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <set>

#include "libdist/check.h"

namespace dist::libtorch {
namespace {

Status refuse(const std::string& name, const std::string& why) {
  return Status::invalid_argument(fmt::format("libtorch: parameter '{}' {}", name, why));
}

// Of the tensor's shape. Shares storage, is no view: Optimizer::zero_grad() detaches gradients,
// which views refuse.
torch::Tensor alias(const torch::Tensor& whole, std::uint64_t first, const torch::Tensor& tensor) {
  auto slot = torch::empty({0}, whole.options());
  slot.set_(whole.storage(), static_cast<int64_t>(first), tensor.sizes(), tensor.strides());
  return slot;
}

bool same_place(const torch::Tensor& a, const torch::Tensor& b) {
  return a.data_ptr() == b.data_ptr() && a.strides() == b.strides();
}

// The slot's own memory, read with other strides, must be whole before it is written.
void copy(torch::Tensor& slot, const torch::Tensor& from) {
  slot.copy_(from.is_alias_of(slot) ? from.clone() : from);
}

// All of the arena's parameters or gradients as one flat tensor of these options that keeps the
// arena. LibTorch is told where the memory lies and need not ask the driver.
torch::Tensor flat(const std::shared_ptr<Arena>& arena, std::span<std::byte> bytes,
                   const torch::TensorOptions& options) {
  return at::for_blob(bytes.data(), {static_cast<int64_t>(arena->elems().value)})
      .deleter([arena](void*) {})
      .options(options)
      .target_device(options.device())
      .make_tensor();
}

// The device goes after the memory that it gave.
struct Kept {
  std::shared_ptr<Device> device;
  Arena arena;
};

}  // namespace

Status check_parameter(const std::string& name, const torch::Tensor& tensor) {
  if (tensor.scalar_type() != torch::kFloat32 && tensor.scalar_type() != torch::kFloat64) {
    return refuse(name, fmt::format("is {}; parameters that are trained are f32 or f64: convert it "
                                    "with to() before attach(), or freeze it",
                                    torch::toString(tensor.scalar_type())));
  }
  if (tensor.layout() != torch::kStrided || !tensor.is_non_overlapping_and_dense()) {
    return refuse(name, "is not dense; make it contiguous() before attach()");
  }
  return {};
}

Result<std::vector<Entry>> find_parameters(torch::nn::Module& module) {
  std::vector<Entry> entries;
  std::set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.defined() || !tensor.requires_grad()) continue;
    if (!seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    DIST_TRY(check_parameter(item.key(), tensor));
    entries.push_back({item.key(), tensor, {}, {}});
  }
  if (entries.empty()) {
    return Status::invalid_argument("libtorch: no parameter of the module requires a gradient");
  }
  return entries;
}

DType type_of(const Entry& entry) {
  return entry.tensor.scalar_type() == torch::kFloat64 ? DType::f64 : DType::f32;
}

std::vector<torch::Tensor> find_constants(torch::nn::Module& module) {
  std::vector<torch::Tensor> constants;
  std::set<const void*> seen;
  const auto take = [&](const torch::Tensor& tensor) {
    if (tensor.defined() && seen.insert(tensor.unsafeGetTensorImpl()).second) {
      constants.push_back(tensor);
    }
  };
  for (const auto& tensor : module.buffers()) take(tensor);
  for (const auto& tensor : module.parameters()) {
    if (tensor.defined() && !tensor.requires_grad()) take(tensor);
  }
  return constants;
}

Result<std::shared_ptr<Arena>> lay_out(std::vector<Entry>& entries,
                                       const std::vector<std::size_t>& order,
                                       const Accelerator& place) {
  std::vector<Parameter> parameters;
  for (const std::size_t e : order) {
    const auto& tensor = entries[e].tensor;
    parameters.push_back(
        {entries[e].name, Elems(static_cast<std::uint64_t>(tensor.numel())), type_of(entries[e])});
  }
  ArenaOptions options;
  options.device = place.device.get();
  options.stream = place.stream;
  auto made = Arena::create(std::move(parameters), options);
  DIST_TRY_BECAUSE(made, "libtorch");
  const auto kept = std::make_shared<Kept>(Kept{place.device, *std::move(made)});
  const std::shared_ptr<Arena> arena(kept, &kept->arena);
  const Range whole{0, arena->elems().value};
  const auto like = entries[order.front()].tensor.options().requires_grad(false);
  const auto values = flat(arena, arena->parameters(whole), like);
  const auto gradients = flat(arena, arena->gradients(whole), like);
  const torch::NoGradGuard no_grad;
  for (std::size_t slot = 0; slot < order.size(); ++slot) {
    Entry& entry = entries[order[slot]];
    entry.value = alias(values, arena->range(slot).begin, entry.tensor);
    entry.gradient = alias(gradients, arena->range(slot).begin, entry.tensor);
    realias_parameter(entry);
    realias_gradient(entry);
  }
  return arena;
}

bool fits(const Entry& entry) {
  return entry.tensor.scalar_type() == entry.value.scalar_type() &&
         entry.tensor.device() == entry.value.device() &&
         entry.tensor.sizes() == entry.value.sizes();
}

void realias_parameter(Entry& entry) {
  const torch::NoGradGuard no_grad;
  if (!same_place(entry.tensor, entry.value)) copy(entry.value, entry.tensor.detach());
  entry.tensor.set_data(entry.value);
}

void realias_gradient(Entry& entry) {
  const torch::NoGradGuard no_grad;
  const auto& gradient = entry.tensor.grad();
  if (!gradient.defined()) {
    entry.gradient.zero_();
  } else if (gradient.is_sparse()) {
    entry.gradient.copy_(gradient.to_dense());
  } else if (!same_place(gradient, entry.gradient)) {
    copy(entry.gradient, gradient);
  }
  entry.tensor.mutable_grad() = entry.gradient;
}

bool parameter_in_place(const Entry& entry) {
  return fits(entry) && same_place(entry.tensor, entry.value);
}

bool gradient_in_place(const Entry& entry) {
  const auto& gradient = entry.tensor.grad();
  return gradient.defined() && !gradient.is_sparse() && same_place(gradient, entry.gradient);
}

}  // namespace dist::libtorch
