// SPDX-License-Identifier: Apache-2.0
// Scratch memory and a clock for choosing algorithms when a network is made.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "libdist/memory/device.h"

namespace nn::cudnn {

class Tuner {
 public:
  /// Algorithms may use so much workspace.
  static constexpr std::uint64_t kMostWorkspaceBytes = std::uint64_t{1} << 30;

  Tuner(dist::Device& device, dist::Stream stream) : device_(&device), stream_(stream) {}

  dist::Stream stream() const { return stream_; }

  /// Zeroed pieces of one allocation that lasts until the next call: first kMostWorkspaceBytes,
  /// then one of each size. Failure where the device has no room.
  std::vector<void*> scratch(const std::vector<std::uint64_t>& sizes);
  /// Gives the memory back.
  void release() { memory_ = {}; }

  /// Shortest of a few runs; infinity where it throws a Failure.
  double milliseconds(const std::function<void()>& work) const;

 private:
  dist::Device* device_;
  dist::Stream stream_;
  dist::DeviceMemory memory_;
};

}  // namespace nn::cudnn
