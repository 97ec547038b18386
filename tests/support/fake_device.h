// SPDX-License-Identifier: Apache-2.0
// A GPU made of host memory and threads. Each stream is a thread that works off a queue, as late as
// it likes, and nothing but events orders it with other streams and the host: who forgets one reads
// wrong values, and the thread sanitizer sees the race. Kernels are the host's own functions.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "libdist/memory/device.h"
#include "libdist/memory/mapping.h"

namespace dist::test {

/// What the handle of a FakeDevice's Stream points to.
class FakeStream {
 public:
  virtual ~FakeStream() = default;
  /// Appends work to the stream, which may block it. `name` goes into FakeDevice::calls().
  virtual void push(std::string_view name, std::function<void()> work) = 0;
};

struct FakeDeviceOptions {
  int index = 0;
  std::string uuid = "fake-0";
  Bytes memory = Bytes(~std::uint64_t{0});  ///< of either kind; allocate() fails beyond
  unsigned seed = 1;                        ///< of the delays
  std::chrono::microseconds most_delay{0};  ///< before each piece of work, drawn anew
  /// attach() maps memory of this process too at addresses of its own, as that of another one. For
  /// ranks as threads that wait for each other in words of shared memory: each has those at other
  /// addresses, so that to the thread sanitizer they order nothing.
  bool attach_anew = false;
};

/// One function that was called, in the order of the calls.
struct FakeCall {
  std::string operation;         ///< "copy", "record", ...
  int stream = 0;                ///< 0: the default stream, else in the order of make_stream()
  std::uint64_t event = 0;       ///< of record and wait: the number of the mark
  const void* memory = nullptr;  ///< the first byte that it writes, where it writes
  std::size_t bytes = 0;
};

class FakeDevice final : public Device {
 public:
  explicit FakeDevice(FakeDeviceOptions options = {});
  /// Lets all streams come to their ends; asserts that no memory is left.
  ~FakeDevice() override;

  /// Appends work to a stream that any FakeDevice made; not the default one.
  static void enqueue(Stream stream, std::function<void()> work);

  /// The stream does nothing more until let_go().
  void hold(Stream stream);
  void let_go(Stream stream);

  /// Makes the call after next `skipped` ones of this name (a FakeCall's operation) fail.
  void fail(std::string_view operation, Status status, int skipped = 0);
  /// When the stream comes to it, the device breaks: every later call fails with `status`.
  void break_down(Stream stream, const Status& status);
  /// What capturing() says of every stream.
  void set_capturing(bool capturing) { capturing_ = capturing; }

  std::vector<FakeCall> calls() const;
  void forget_calls();
  std::size_t allocations() const;  ///< alive
  Bytes allocated() const;          ///< alive
  std::size_t events_out() const;   ///< recorded and not given back
  StreamPriority priority(Stream stream) const;

  std::string_view name() const override { return name_; }
  int index() const override { return options_.index; }
  std::string_view uuid() const override { return options_.uuid; }
  Status make_current() override { return enter({"make_current"}); }
  Result<DeviceMemory> allocate(Bytes bytes, MemoryKind kind) override;
  Result<DeviceMemory> pin(std::span<std::byte> host) override;
  Result<DeviceAddress> address(const DeviceMemory& memory) override;
  Result<DeviceMemory> attach(const DeviceAddress& address) override;
  Result<Stream> make_stream(StreamPriority priority) override;
  Result<Event> record(Stream stream) override;
  void release_event(Event event) override;
  Result<bool> passed(Event event) override;
  Status wait(Stream stream, Event event) override;
  Result<Duration> elapsed(Event from, Event to) override;
  Result<bool> capturing(Stream stream) override;
  Status synchronize(Stream stream) override;
  Status copy(Stream stream, std::span<std::byte> to, std::span<const std::byte> from) override;
  Status fill(Stream stream, DType dtype, std::span<std::byte> bytes, double value) override;
  Status reduce(Stream stream, std::span<const std::span<std::byte>> outs,
                std::span<const std::span<const std::byte>> sources, DType dtype,
                Reduction reduction) override;
  Status divide(Stream stream, std::span<std::byte> data, std::uint64_t count,
                DType dtype) override;
  Status divide_by(Stream stream, std::span<std::byte> data, const double* count,
                   DType dtype) override;
  Status update(Stream stream, const UpdateRule& rule, DType dtype, std::span<std::byte> parameters,
                std::span<const std::span<const std::byte>> gradients,
                std::array<std::byte*, kMostStates> states, const UpdateScalars* scalars,
                const double* gate) override;
  Status scale_by_norms(Stream stream, const NormScaling& scaling, const NormInputs& inputs,
                        UpdateScalars* scaled, double* gate) override;
  Status add_squares(Stream stream, DType dtype, std::span<const std::byte> values,
                     double* total) override;
  Status count_not_finite(Stream stream, DType dtype, std::span<const std::byte> values,
                          std::uint32_t* count) override;
  Status convert(Stream stream, std::span<std::byte> out, DType out_dtype,
                 std::span<const std::byte> in, DType in_dtype, const float* factor) override;

 private:
  class Queue;
  struct Mark;
  struct FakeEvent;
  struct Failure {
    std::string operation;
    Status status;
    int skipped;
  };

  void release(std::span<std::byte> bytes, MemoryKind kind, bool attached) override;
  Status enter(FakeCall call);
  Status run(std::string_view operation, Stream stream, std::span<const std::byte> writes,
             std::function<void()> work);
  Queue& queue(Stream stream) const;
  std::shared_ptr<Mark> mark_of(Event event) const;
  void drain();

  FakeDeviceOptions options_;
  std::string name_;
  Queue* default_queue_ = nullptr;
  std::atomic<bool> capturing_ = false;
  std::atomic<bool> broken_ = false;
  mutable std::mutex mutex_;  // of all below; no stream's thread takes it
  Status broken_because_;
  std::vector<FakeCall> calls_;
  std::vector<Failure> failures_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::map<FakeEvent*, std::unique_ptr<FakeEvent>> events_;
  std::vector<std::unique_ptr<FakeEvent>> spare_events_;
  std::uint64_t next_mark_ = 1;
  std::map<std::byte*, Mapping> memory_;    // of allocate()
  std::map<std::byte*, Mapping> attached_;  // of other processes
  Bytes allocated_;
};

}  // namespace dist::test
