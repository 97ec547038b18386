// SPDX-License-Identifier: Apache-2.0
// Batches on their way to the device: from the host through two pinned buffers, so that the next
// one is copied while the device still reads the last; from the device as they are.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "examples/nn/network.h"

namespace nn::cudnn {

class Feed {
 public:
  /// `timeout`: of waits for the device.
  Feed(dist::Device& device, dist::Stream stream, std::int64_t batch, Shape image,
       dist::Duration timeout)
      : device_(&device), stream_(stream), batch_(batch), image_(image), timeout_(timeout) {}
  ~Feed();
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  /// Copies the labels to `labels` and returns the images (nchw, f32) in device memory, valid in
  /// the stream's order until the next call. Waits where both pinned buffers are still read. The
  /// first batch from the host allocates. Errors: of the device, and of labels on the host outside
  /// [0, classes).
  dist::Result<const float*> take(const Batch& batch, std::int64_t classes, std::int32_t* labels);

 private:
  struct Slot {
    dist::DeviceMemory pinned;
    std::optional<dist::Event> read;
  };

  std::uint64_t image_bytes() const;
  dist::Status take_from_host(const Batch& batch, std::int32_t* labels);

  dist::Device* device_;
  dist::Stream stream_;
  std::int64_t batch_;
  Shape image_;
  dist::Duration timeout_;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
  dist::DeviceMemory images_;
};

/// Blocks the thread until the event has passed, and gives it back, also where an error ends the
/// wait: the device's, or timed_out.
dist::Status await_event(dist::Device& device, dist::Event event, dist::Duration timeout);

}  // namespace nn::cudnn
