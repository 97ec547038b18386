// SPDX-License-Identifier: Apache-2.0
// The GPU of a rank, and its batches on it.
#pragma once

#include <dist/dist.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "examples/data/synthetic.h"
#include "examples/nn/network.h"
#include "examples/train/options.h"
#include "libdist/memory/device.h"

namespace train {

/// A GPU, and the stream on which the network computes.
struct Gpu {
  std::unique_ptr<dist::Device> device;
  dist::Stream stream;

  /// Blocks until the GPU has done what it was given, at most `timeout`.
  dist::Status wait(dist::Duration timeout) const;
};

/// The GPU number local_rank of this host, counted round where ranks share them. Error:
/// unavailable, with what to install or which backend to choose instead.
dist::Result<Gpu> open_gpu(const TrainOptions& options);

/// Whether the backend computes in options.precision; which do, where it does not.
dist::Status check_precision(const TrainOptions& options);

/// Batches in a GPU's memory.
class GpuBatches {
 public:
  GpuBatches() = default;

  /// Copies them there, and waits for it. Error: resource.
  static dist::Result<GpuBatches> upload(const Gpu& gpu, std::span<const nn::data::Samples> batches,
                                         dist::Duration timeout);

  bool empty() const { return batches_.empty(); }
  std::size_t size() const { return batches_.size(); }
  nn::Batch operator[](std::size_t i) const { return batches_[i]; }

 private:
  std::vector<dist::DeviceMemory> memory_;
  std::vector<nn::Batch> batches_;
};

}  // namespace train
