// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/memory.h"

#include <algorithm>

namespace nn::cudnn {
namespace {

constexpr std::uint64_t kAlignmentBytes = 256;

}  // namespace

ReplicaMemory::ReplicaMemory(const StepPlan& plan, const std::vector<OperationPtr>& operations,
                             const std::vector<std::uint64_t>& parameter_elements, Element element,
                             std::int64_t batch)
    : element_(element) {
  // What is kept until the backward pass takes part in the plan, after the tensors.
  std::vector<Lifetime> lifetimes = plan.lifetimes;
  std::uint64_t workspace_bytes = 0;
  for (std::size_t g = 0; g < operations.size(); ++g) {
    workspace_bytes = std::max(workspace_bytes, operations[g]->workspace_bytes());
    for (const Kept& kept : operations[g]->kept()) {
      if (!kept.always) {
        lifetimes.push_back({kept.bytes, plan.forward_moment(g), plan.backward_moment(g)});
      }
    }
  }
  const MemoryPlan placed = plan_memory(lifetimes, kAlignmentBytes);
  total_bytes_ = placed.total_bytes;
  buffers_.assign(placed.offsets.begin(),
                  placed.offsets.begin() + static_cast<std::ptrdiff_t>(plan.lifetimes.size()));
  std::size_t next = plan.lifetimes.size();
  kept_.resize(operations.size());
  for (std::size_t g = 0; g < operations.size(); ++g) {
    for (const Kept& kept : operations[g]->kept()) {
      kept_[g].push_back(kept.always ? append(kept.bytes) : placed.offsets[next++]);
    }
  }
  workspace_ = append(workspace_bytes);
  state_ = append(sizeof(StepState));
  labels_ = append(static_cast<std::uint64_t>(batch) * sizeof(std::int32_t));
  if (element == Element::f32) return;
  for (const std::uint64_t elements : parameter_elements) {
    parameter_copies_.push_back(append(elements * bytes_of(element)));
    gradient_copies_.push_back(append(elements * bytes_of(element)));
  }
}

std::uint64_t ReplicaMemory::append(std::uint64_t bytes) {
  const std::uint64_t offset = total_bytes_;
  total_bytes_ += (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  return offset;
}

dist::Status ReplicaMemory::allocate(dist::Device& device, dist::Stream stream,
                                     const std::vector<OperationPtr>& operations) {
  auto memory = device.allocate(dist::Bytes(total_bytes_), dist::MemoryKind::device);
  DIST_TRY_BECAUSE(memory, "activations; use a smaller --batch or --image");
  memory_ = *std::move(memory);
  for (std::size_t g = 0; g < operations.size(); ++g) {
    for (std::size_t k = 0; k < operations[g]->kept().size(); ++k) {
      const Kept& kept = operations[g]->kept()[k];
      if (!kept.always || kept.initial == 0) continue;
      const std::vector<float> values(kept.bytes / sizeof(float), kept.initial);
      DIST_TRY(device.copy(stream, {static_cast<std::byte*>(at(kept_[g][k])), kept.bytes},
                           std::as_bytes(std::span(values))));
      DIST_TRY(device.synchronize(stream));
    }
  }
  return {};
}

View ReplicaMemory::view(const Place& place) const {
  if (place.buffer == kNone) return {};
  auto* data = static_cast<std::byte*>(at(buffers_[place.buffer]));
  return {data + static_cast<std::uint64_t>(place.channel) * bytes_of(element_), place.pitch};
}

std::vector<void*> ReplicaMemory::kept(std::size_t operation) const {
  std::vector<void*> pointers;
  for (const std::uint64_t offset : kept_[operation]) pointers.push_back(at(offset));
  return pointers;
}

}  // namespace nn::cudnn
