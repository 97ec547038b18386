// SPDX-License-Identifier: Apache-2.0
// A GPU as the library uses it: memory, streams of work in order, marks in them, copies, and the
// loops over ranges of an arena. No type of CUDA appears here; open_device() is linked from
// device_cuda.cpp or device_off.cpp.
//
// Whatever takes a Stream behaves like a kernel launched on it: the call returns at once, the work
// happens in the stream's order, and its memory belongs to it until then. Nothing here waits for
// the device but synchronize(), allocate() and the destructors of memory. Several threads may use a
// device at once, a stream one at a time. Errors of enqueued work show in a later call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "libdist/status.h"
#include "libdist/types.h"
#include "libdist/update_norms.h"
#include "libdist/update_rule.h"
#include "libdist/update_scalars.h"

namespace dist {

class Device;

/// A queue of work in order. Of the device that made it; with CUDA `handle` is a cudaStream_t, and
/// the default-constructed one is CUDA's default stream.
struct Stream {
  void* handle = nullptr;  ///< opaque
};

/// A mark in a stream; with CUDA a cudaEvent_t.
struct Event {
  void* handle = nullptr;  ///< opaque
};

/// Whose work the GPU prefers where several streams have some.
enum class StreamPriority : std::uint8_t { normal, high };

/// Where memory that a Device hands out lies.
enum class MemoryKind : std::uint8_t {
  device,  ///< on the GPU; the host cannot touch it
  pinned,  ///< on the host, page-locked: the GPU can reach it, and copies do not stage
};

/// Memory of a device, or attached from another process. Movable, and it stays where it is when
/// moved; the device outlives it. Zeroed when allocated.
class DeviceMemory {
 public:
  /// Nothing.
  DeviceMemory() = default;
  /// For devices: memory that goes back to `device` with the object.
  DeviceMemory(Device* device, std::span<std::byte> bytes, MemoryKind kind, bool attached)
      : device_(device), bytes_(bytes), kind_(kind), attached_(attached) {}
  /// Leaves nothing there.
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  /// Gives back what was here.
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    DeviceMemory moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~DeviceMemory();

  /// Addresses as the GPU knows them; pinned memory also as the host does.
  std::span<std::byte> bytes() const { return bytes_; }
  /// Where it lies.
  MemoryKind kind() const { return kind_; }

 private:
  void swap(DeviceMemory& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(bytes_, other.bytes_);
    std::swap(kind_, other.kind_);
    std::swap(attached_, other.attached_);
  }

  Device* device_ = nullptr;
  std::span<std::byte> bytes_;
  MemoryKind kind_ = MemoryKind::device;
  bool attached_ = false;
};

/// Where another process of the host finds device memory as long as its owner holds it. Plain data,
/// to be sent between ranks.
struct DeviceAddress {
  std::array<std::byte, 64> handle{};  ///< opaque
  std::uint64_t process = 0;           ///< pid: within a process the memory is reached as it is
  std::uint64_t pointer = 0;           ///< there
  std::uint64_t offset = 0;            ///< in what the handle names
  std::uint64_t bytes = 0;             ///< its size
};

/// A rank may hold one for each GPU it uses; several ranks may use the same GPU.
class Device {
 public:
  virtual ~Device() = default;
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// For messages and reports: "cuda:0 NVIDIA H200".
  virtual std::string_view name() const = 0;
  /// Its number among the GPUs that this process sees.
  virtual int index() const = 0;

  /// Names the GPU across processes and hosts, so that ranks see who shares one.
  virtual std::string_view uuid() const = 0;

  /// Makes this the GPU of the calling thread, for libraries that ask the thread (NCCL, cuDNN). No
  /// function of this class needs it.
  virtual Status make_current() = 0;

  /// At least 256-byte aligned and zeroed. Error: resource.
  virtual Result<DeviceMemory> allocate(Bytes bytes, MemoryKind kind) = 0;

  /// Page-locks host memory that the caller owns, for as long as the result lives, which must end
  /// before the memory does. Errors: resource, unavailable; the memory can then be used as it is.
  virtual Result<DeviceMemory> pin(std::span<std::byte> host) = 0;

  /// Lets other processes of the host reach memory of allocate(device). Error: unavailable.
  virtual Result<DeviceAddress> address(const DeviceMemory& memory) = 0;
  /// Error: unavailable, where this process cannot reach it.
  virtual Result<DeviceMemory> attach(const DeviceAddress& address) = 0;

  /// Streams live as long as the device. Error: resource.
  virtual Result<Stream> make_stream(StreamPriority priority) = 0;

  /// A mark from the pool; give it back with release_event() when it has passed or no one asks any
  /// more. Error: resource.
  virtual Result<Event> record(Stream stream) = 0;
  /// Gives a mark back to the pool.
  virtual void release_event(Event event) = 0;
  /// True once all work before the mark has ended. Errors of the device show here.
  virtual Result<bool> passed(Event event) = 0;
  /// Work that is enqueued on `stream` from now on comes after the mark.
  virtual Status wait(Stream stream, Event event) = 0;
  /// Between two marks that have passed.
  virtual Result<Duration> elapsed(Event from, Event to) = 0;
  /// Whether the stream is being captured: a mark recorded now may be waited for, not asked.
  virtual Result<bool> capturing(Stream stream) = 0;
  /// Blocks the calling thread until the stream is empty; not used within a step.
  virtual Status synchronize(Stream stream) = 0;

  /// Any kinds of memory, equal sizes; host memory should be pinned.
  virtual Status copy(Stream stream, std::span<std::byte> to, std::span<const std::byte> from) = 0;
  /// Every element becomes `value`, converted to dtype.
  virtual Status fill(Stream stream, DType dtype, std::span<std::byte> bytes, double value) = 0;

  /// As reduce_in_order() in memory/reduce.h, bit for bit, for at most kMostDeviceSources sources
  /// and outs.
  virtual Status reduce(Stream stream, std::span<const std::span<std::byte>> outs,
                        std::span<const std::span<const std::byte>> sources, DType dtype,
                        Reduction reduction) = 0;
  /// As divide() in memory/reduce.h.
  virtual Status divide(Stream stream, std::span<std::byte> data, std::uint64_t count,
                        DType dtype) = 0;
  /// The same by *count, a whole number in memory that the device can reach, read when the work
  /// happens; 0 changes nothing.
  virtual Status divide_by(Stream stream, std::span<std::byte> data, const double* count,
                           DType dtype) = 0;

  /// As update_on() in update_loops.h, bit for bit, but for 1 to kMostDeviceSources gradients.
  /// `scalars` is read when the work happens, from memory that the device can reach: who replays a
  /// captured step writes new ones before. Nothing changes where *gate (reachable too) is infinite
  /// or not a number.
  virtual Status update(Stream stream, const UpdateRule& rule, DType dtype,
                        std::span<std::byte> parameters,
                        std::span<const std::span<const std::byte>> gradients,
                        std::array<std::byte*, kMostStates> states, const UpdateScalars* scalars,
                        const double* gate = nullptr) = 0;

  /// scaled[i] = norm_scalars() of part i, and *gate = norm_gate(), see update_norms.h.
  virtual Status scale_by_norms(Stream stream, const NormScaling& scaling, const NormInputs& inputs,
                                UpdateScalars* scaled, double* gate) = 0;

  /// *total += the sum of squares of `values` (f32 or f64), in double, in an order that depends on
  /// the size alone. `total` is memory that the device can reach.
  virtual Status add_squares(Stream stream, DType dtype, std::span<const std::byte> values,
                             double* total) = 0;

  /// *count += the values that are infinite or not a number; for loss scaling. f32, f64, f16, bf16.
  virtual Status count_not_finite(Stream stream, DType dtype, std::span<const std::byte> values,
                                  std::uint32_t* count) = 0;

  /// out[i] = in[i] * *factor (1 where null): a product in float, rounded once. Between f32, f16
  /// and bf16; out and in may be the same where the types are.
  virtual Status convert(Stream stream, std::span<std::byte> out, DType out_dtype,
                         std::span<const std::byte> in, DType in_dtype, const float* factor) = 0;

 private:
  friend class DeviceMemory;
  virtual void release(std::span<std::byte> bytes, MemoryKind kind, bool attached) = 0;
};

/// The most gradients that one reduction or update on a device takes.
inline constexpr std::size_t kMostDeviceSources = 16;

inline DeviceMemory::~DeviceMemory() {
  if (device_ != nullptr) device_->release(bytes_, kind_, attached_);
}

/// Whether this build has CUDA, and this machine a GPU that it can use; the reason where not.
Status device_available();

/// GPUs of this process that can be used; 0 where there are none.
int device_count();

/// Error: unavailable, where the build has no CUDA, the driver is missing or too old, or there is
/// no GPU of this index.
Result<std::unique_ptr<Device>> open_device(int index);

}  // namespace dist
