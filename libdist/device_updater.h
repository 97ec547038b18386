// SPDX-License-Identifier: Apache-2.0
// The update on a GPU: the twin of Updater for an arena on a device. Same formulas, same bits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "libdist/memory/device.h"
#include "libdist/status.h"
#include "libdist/types.h"
#include "libdist/update.h"

namespace dist {

/// Everything but begin_step() enqueues and returns, and may be captured. Calls of a step come in
/// the order begin_step, add_squares ..., settle, apply ...; on several streams the caller orders
/// them by events. One thread at a time.
class DeviceUpdater {
 public:
  /// State is zero. Errors: resource, invalid_argument of validate().
  static Result<DeviceUpdater> create(Device& device, Update update, const UpdateLayout& layout,
                                      DType dtype, Duration timeout = std::chrono::seconds(120));
  DeviceUpdater(DeviceUpdater&&) noexcept = default;
  DeviceUpdater& operator=(DeviceUpdater&&) noexcept;
  ~DeviceUpdater();

  /// Hands the GPU the numbers of a step, which comes in the stream's order: for all that is
  /// enqueued later, also for a captured step that is launched again. Not to be captured itself.
  /// `step.squares` is not looked at. Where given, the gradients are sums over *contributors
  /// workers, in place of step.gradient_scale: memory that the device can reach, read in settle();
  /// 0: nothing is updated. Waits where the GPU is two steps behind; error: timed_out.
  Status begin_step(Stream stream, const UpdateStep& step, const double* contributors = nullptr);

  /// Whether add_squares() must have seen all gradients of a step before settle().
  bool needs_norms() const { return dist::needs_norms(update_); }

  /// As Updater::add_squares(), to squares().
  Status add_squares(Stream stream, std::span<const std::byte> parameters,
                     std::span<const std::byte> gradients, std::uint64_t first);

  /// The sums, in device memory, zeroed by begin_step(): ranks that own parts of the gradients add
  /// theirs up. Empty where none are needed.
  std::span<double> squares() const;

  /// Derives what the step makes of its squares and contributors; nothing where it has neither.
  Status settle(Stream stream);

  /// A number on the device that is finite after settle() unless the update is left out
  /// (Update::skip_not_finite, no contributors). nullptr where settle() has nothing to do.
  const double* gate() const;

  /// As Updater::apply().
  Status apply(Stream stream, std::span<std::byte> parameters, std::span<const std::byte> gradients,
               std::uint64_t first);
  /// As Updater::apply_sum(), for up to kMostDeviceSources gradients.
  Status apply_sum(Stream stream, std::span<std::byte> parameters,
                   std::span<const std::span<const std::byte>> gradients, std::uint64_t first);

  /// Values of state an element has, each in an array of its own.
  std::size_t state_arrays() const { return states_of(update_.rule); }
  /// One of these arrays at [range.begin, range.end), in device memory. For checkpoints: copy it.
  std::span<std::byte> state(std::size_t array, Range range) const;
  /// Memory of the state.
  Bytes state_bytes() const;

  /// What it applies.
  const Update& update() const { return update_; }
  /// False with MeanGradient.
  bool updates_parameters() const { return dist::updates_parameters(update_.rule); }
  /// Of the rule, from the next begin_step() on.
  void set_learning_rate(double learning_rate) {
    dist::set_learning_rate(update_.rule, learning_rate);
  }

 private:
  // A host's copy of a step's scalars, and the mark after which the GPU has read it.
  struct Slot {
    std::span<std::byte> bytes;
    std::optional<Event> read;
  };

  DeviceUpdater(Device& device, Update update, const UpdateLayout& layout, DType dtype,
                Duration timeout);
  Status allocate();
  Status wait_for(Slot& slot);
  bool settles() const;
  NormInputs inputs() const;
  std::span<const std::byte> cut(std::span<const std::byte> bytes, std::uint64_t first,
                                 Range range) const;
  template <typename T>
  T* at(std::uint64_t offset) const;

  Device* device_;
  Update update_;
  Duration timeout_;
  const double* contributors_ = nullptr;  // of the step
  Elems elems_;
  UpdateCourse course_;
  DType dtype_;
  std::array<DeviceMemory, kMostStates> states_;
  DeviceMemory numbers_;  // bases, scaled scalars, squares, total; parts
  DeviceMemory pinned_;   // the slots
  std::array<Slot, 2> slots_;
  std::size_t next_slot_ = 0;
};

}  // namespace dist
