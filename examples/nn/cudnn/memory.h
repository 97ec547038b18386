// SPDX-License-Identifier: Apache-2.0
// The memory of a replica on the device beside the arena: planned activations and gradients, what
// operations keep, one workspace, and working copies of parameters in half precision.
#pragma once

#include <cstdint>
#include <vector>

#include "examples/nn/cudnn/layers.h"

namespace nn::cudnn {

class ReplicaMemory {
 public:
  /// Plans; nothing is allocated. `parameter_elements`: by parameter, in the arena's order.
  ReplicaMemory(const StepPlan& plan, const std::vector<OperationPtr>& operations,
                const std::vector<std::uint64_t>& parameter_elements, Element element,
                std::int64_t batch);

  std::uint64_t total_bytes() const { return total_bytes_; }

  /// Allocates, fills in what is kept always, and waits. Error: resource.
  dist::Status allocate(dist::Device& device, dist::Stream stream,
                        const std::vector<OperationPtr>& operations);

  View view(const Place& place) const;
  std::vector<void*> kept(std::size_t operation) const;
  void* workspace() const { return at(workspace_); }
  StepState* state() const { return static_cast<StepState*>(at(state_)); }
  std::int32_t* labels() const { return static_cast<std::int32_t*>(at(labels_)); }
  /// Null in f32.
  void* parameter_copy(std::size_t parameter) const { return copy(parameter_copies_, parameter); }
  void* gradient_copy(std::size_t parameter) const { return copy(gradient_copies_, parameter); }

 private:
  std::uint64_t append(std::uint64_t bytes);
  void* at(std::uint64_t offset) const { return memory_.bytes().data() + offset; }
  void* copy(const std::vector<std::uint64_t>& offsets, std::size_t parameter) const {
    return offsets.empty() ? nullptr : at(offsets[parameter]);
  }

  Element element_;
  std::vector<std::uint64_t> buffers_;            // offsets, as everything below
  std::vector<std::vector<std::uint64_t>> kept_;  // by operation
  std::uint64_t workspace_ = 0, state_ = 0, labels_ = 0;
  std::vector<std::uint64_t> parameter_copies_, gradient_copies_;
  std::uint64_t total_bytes_ = 0;
  dist::DeviceMemory memory_;
};

}  // namespace nn::cudnn
