// SPDX-License-Identifier: Apache-2.0
// When the parts of a step happened on the device, and how many ranks contributed to it: read when
// it is over, so that nobody waits for the account.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <span>

#include "libdist/memory/device.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::allreduce {

/// What is known of the last step that is over.
struct DeviceStepTimes {
  std::optional<int> contributors;  ///< none: no step is known to be over
  Duration busy{0};                 ///< from the first collective to the end of the last
  Duration exposed{0};  ///< from the end of the backward pass until the stream may go on
};

/// Not thread-safe. A step that is captured, and one that begins while kMostSteps others are under
/// way, is left out.
class DeviceTimeline {
 public:
  static constexpr std::size_t kMostSteps = 8;

  /// `device` outlives it.
  explicit DeviceTimeline(Device& device) : device_(device) {}
  ~DeviceTimeline();
  DeviceTimeline(const DeviceTimeline&) = delete;
  DeviceTimeline& operator=(const DeviceTimeline&) = delete;

  Status prepare();

  /// The marks of a step, in this order, each at its place of a stream. end_step() copies
  /// `contributors`, a double on the device, which is not to change before `program` goes on.
  Status begin_step(Stream collectives);
  Status end_backward(Stream program);
  Status end_step(Stream collectives, Stream program, std::span<const std::byte> contributors);

  /// Never blocks.
  Result<DeviceStepTimes> last();

  /// Blocks until all steps are over, or `failure` has something.
  Status wait(const std::function<Status()>& failure);

  /// Blocks until a stream is empty, at most for `grace`.
  Status wait_for(Stream stream, Duration grace);

 private:
  struct Step {
    Event began;
    Event backward;
    Event exchanged;
    Event done;
    std::size_t slot = 0;
  };

  Status record(Stream stream, Event* event);
  void release(const Step& step);
  Status collect();

  Device& device_;
  DeviceMemory slots_;  // a double for each step under way, pinned
  std::deque<Step> steps_;
  std::optional<Step> current_;
  std::size_t next_slot_ = 0;
  DeviceStepTimes last_;
};

}  // namespace dist::allreduce
