// SPDX-License-Identifier: Apache-2.0
// A GPU by the CUDA runtime. Every call names its GPU first: a thread's current one may be another.
#include <cuda_runtime.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "libdist/check.h"
#include "libdist/memory/cuda_call.cuh"
#include "libdist/memory/device.h"
#include "libdist/memory/device_grid.h"
#include "libdist/memory/device_kernels.h"
#include "libdist/memory/fill_pattern.h"

namespace dist {
namespace {

using cuda::event_of;
using cuda::offset_of;
using cuda::RelaxedCapture;
using cuda::status_of;
using cuda::stream_of;
using cuda::text_of;
using cuda::uuid_text;

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(DeviceAddress::handle));

// Blocks beyond those that run at once only cost their start.
constexpr std::uint32_t kBlocksOfMultiprocessor = 16;

class CudaDevice final : public Device {
 public:
  static Result<std::unique_ptr<Device>> open(int index);
  ~CudaDevice() override;

  std::string_view name() const override { return name_; }
  int index() const override { return index_; }
  std::string_view uuid() const override { return uuid_; }
  Status make_current() override;
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
  CudaDevice(int index, std::string name, std::string uuid, std::uint32_t most_blocks)
      : index_(index), name_(std::move(name)), uuid_(std::move(uuid)), most_blocks_(most_blocks) {}

  void release(std::span<std::byte> bytes, MemoryKind kind, bool attached) override;
  Status told(cudaError_t error, std::string_view call) const {
    return status_of(error, name_, call);
  }
  /// The same of a kernel.
  Status told(int error, std::string_view kernel) const {
    return status_of(static_cast<cudaError_t>(error), name_, kernel);
  }
  bool runs_dry();
  Status add_scratch(Stream stream);
  Status reach_peer(const void* pointer);
  device::Launch launch(Stream stream);

  int index_;
  std::string name_;
  std::string uuid_;
  std::uint32_t most_blocks_;
  Stream zeroing_;    // of allocate()
  std::mutex mutex_;  // of all below
  std::vector<Event> spare_events_;
  std::vector<Stream> streams_;
  std::map<void*, double*> scratch_;           // of each stream
  std::multimap<std::byte*, void*> attached_;  // memory to what was opened, once a time
};

Result<std::unique_ptr<Device>> CudaDevice::open(int index) {
  DIST_TRY(device_available());
  if (index < 0 || index >= device_count()) {
    return Status::unavailable(
        fmt::format("there is no GPU {}: this process has {}", index, device_count()));
  }
  const auto label = fmt::format("cuda:{}", index);
  cudaDeviceProp properties{};
  DIST_TRY(
      status_of(cudaGetDeviceProperties(&properties, index), label, "cudaGetDeviceProperties"));
  const auto blocks =
      static_cast<std::uint32_t>(properties.multiProcessorCount) * kBlocksOfMultiprocessor;
  std::unique_ptr<CudaDevice> device(new CudaDevice(
      index, fmt::format("{} {}", label, properties.name), uuid_text(properties.uuid), blocks));
  DIST_TRY(device->make_current());
  auto zeroing = device->make_stream(StreamPriority::normal);
  DIST_TRY(zeroing);
  device->zeroing_ = *zeroing;
  DIST_TRY(device->add_scratch({}));
  return std::unique_ptr<Device>(std::move(device));
}

// Errors have nobody to be told to.
CudaDevice::~CudaDevice() {
  if (cudaSetDevice(index_) != cudaSuccess) return;
  for (const auto& [stream, scratch] : scratch_) static_cast<void>(cudaFree(scratch));
  for (const Event event : spare_events_) static_cast<void>(cudaEventDestroy(event_of(event)));
  for (const Stream stream : streams_) static_cast<void>(cudaStreamDestroy(stream_of(stream)));
}

Status CudaDevice::make_current() { return told(cudaSetDevice(index_), "cudaSetDevice"); }

Result<DeviceMemory> CudaDevice::allocate(Bytes bytes, MemoryKind kind) {
  DIST_TRY(make_current());
  const RelaxedCapture relaxed;
  const std::size_t size = std::max<std::size_t>(bytes.value, 1);
  void* pointer = nullptr;
  if (kind == MemoryKind::pinned) {
    DIST_TRY_BECAUSE(
        told(cudaHostAlloc(&pointer, size, cudaHostAllocPortable | cudaHostAllocMapped),
             "cudaHostAlloc"),
        fmt::format("{} bytes", bytes.value));
    std::memset(pointer, 0, size);
    return DeviceMemory(this, {static_cast<std::byte*>(pointer), bytes.value}, kind, false);
  }
  DIST_TRY_BECAUSE(told(cudaMalloc(&pointer, size), "cudaMalloc"),
                   fmt::format("{} bytes", bytes.value));
  DeviceMemory memory(this, {static_cast<std::byte*>(pointer), bytes.value}, kind, false);
  DIST_TRY(told(cudaMemsetAsync(pointer, 0, size, stream_of(zeroing_)), "cudaMemsetAsync"));
  DIST_TRY(synchronize(zeroing_));
  return memory;
}

Result<DeviceMemory> CudaDevice::pin(std::span<std::byte> host) {
  DIST_TRY(make_current());
  DIST_TRY(told(
      cudaHostRegister(host.data(), host.size(), cudaHostRegisterPortable | cudaHostRegisterMapped),
      "cudaHostRegister"));
  return DeviceMemory(this, host, MemoryKind::pinned, true);
}

Result<DeviceAddress> CudaDevice::address(const DeviceMemory& memory) {
  DIST_ASSERT(memory.kind() == MemoryKind::device, "address: not memory of allocate(device)");
  DIST_TRY(make_current());
  cudaIpcMemHandle_t handle{};
  DIST_TRY(told(cudaIpcGetMemHandle(&handle, memory.bytes().data()), "cudaIpcGetMemHandle"));
  const auto offset = offset_of(memory.bytes().data(), name_);
  DIST_TRY(offset);
  DeviceAddress address;
  std::memcpy(address.handle.data(), &handle, sizeof(handle));
  address.process = static_cast<std::uint64_t>(getpid());
  address.pointer = reinterpret_cast<std::uintptr_t>(memory.bytes().data());
  address.offset = *offset;
  address.bytes = memory.bytes().size();
  return address;
}

// Memory of this process may lie on another GPU.
Status CudaDevice::reach_peer(const void* pointer) {
  cudaPointerAttributes attributes{};
  DIST_TRY(told(cudaPointerGetAttributes(&attributes, pointer), "cudaPointerGetAttributes"));
  if (attributes.type != cudaMemoryTypeDevice) {
    return Status::unavailable(fmt::format("{}: the address is of no GPU's memory", name_));
  }
  if (attributes.device == index_) return {};
  int possible = 0;
  DIST_TRY(told(cudaDeviceCanAccessPeer(&possible, index_, attributes.device),
                "cudaDeviceCanAccessPeer"));
  if (possible == 0) {
    return Status::unavailable(
        fmt::format("{}: cannot reach the memory of cuda:{}", name_, attributes.device));
  }
  const cudaError_t error = cudaDeviceEnablePeerAccess(attributes.device, 0);
  if (error == cudaErrorPeerAccessAlreadyEnabled) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  return told(error, "cudaDeviceEnablePeerAccess");
}

Result<DeviceMemory> CudaDevice::attach(const DeviceAddress& address) {
  DIST_TRY(make_current());
  if (address.process == static_cast<std::uint64_t>(getpid())) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): as it travels to other processes
    auto* const here = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address.pointer));
    DIST_TRY(reach_peer(here));
    return DeviceMemory(this, {here, address.bytes}, MemoryKind::device, true);
  }
  cudaIpcMemHandle_t handle{};
  std::memcpy(&handle, address.handle.data(), sizeof(handle));
  void* base = nullptr;
  DIST_TRY(told(cudaIpcOpenMemHandle(&base, handle, cudaIpcMemLazyEnablePeerAccess),
                "cudaIpcOpenMemHandle"));
  auto* const here = static_cast<std::byte*>(base) + address.offset;
  const std::lock_guard lock(mutex_);
  attached_.emplace(here, base);
  return DeviceMemory(this, {here, address.bytes}, MemoryKind::device, true);
}

// Whether our streams ran dry in time. Freeing memory waits for all of the GPU by itself, without
// end where a kernel hangs.
bool CudaDevice::runs_dry() {
  std::vector<Stream> streams;
  {
    const std::lock_guard lock(mutex_);
    streams = streams_;
  }
  return std::ranges::all_of(streams, [](Stream s) { return cuda::runs_dry(stream_of(s)); });
}

// Errors have nobody to be told to; later calls show those that last. What a GPU that hangs may
// still use goes with the process.
void CudaDevice::release(std::span<std::byte> bytes, MemoryKind kind, bool attached) {
  if (cudaSetDevice(index_) != cudaSuccess) return;
  const RelaxedCapture relaxed;
  if (!runs_dry()) return;
  if (!attached) {
    static_cast<void>(kind == MemoryKind::pinned ? cudaFreeHost(bytes.data())
                                                 : cudaFree(bytes.data()));
    return;
  }
  // Other streams than ours may have used it.
  static_cast<void>(cudaDeviceSynchronize());
  if (kind == MemoryKind::pinned) {
    static_cast<void>(cudaHostUnregister(bytes.data()));
    return;
  }
  const std::lock_guard lock(mutex_);
  const auto opened = attached_.find(bytes.data());
  if (opened == attached_.end()) return;  // of this process
  static_cast<void>(cudaIpcCloseMemHandle(opened->second));
  attached_.erase(opened);
}

Status CudaDevice::add_scratch(Stream stream) {
  void* scratch = nullptr;
  DIST_TRY(told(cudaMalloc(&scratch, device::kMostSumBlocks * sizeof(double)), "cudaMalloc"));
  const std::lock_guard lock(mutex_);
  scratch_[stream.handle] = static_cast<double*>(scratch);
  return {};
}

Result<Stream> CudaDevice::make_stream(StreamPriority priority) {
  DIST_TRY(make_current());
  int least = 0;
  int greatest = 0;
  DIST_TRY(told(cudaDeviceGetStreamPriorityRange(&least, &greatest),
                "cudaDeviceGetStreamPriorityRange"));
  cudaStream_t made = nullptr;
  DIST_TRY(told(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking,
                                             priority == StreamPriority::high ? greatest : least),
                "cudaStreamCreateWithPriority"));
  const Stream stream{made};
  {
    const std::lock_guard lock(mutex_);
    streams_.push_back(stream);
  }
  DIST_TRY(add_scratch(stream));
  return stream;
}

Result<Event> CudaDevice::record(Stream stream) {
  DIST_TRY(make_current());
  Event event;
  {
    const std::lock_guard lock(mutex_);
    if (!spare_events_.empty()) {
      event = spare_events_.back();
      spare_events_.pop_back();
    }
  }
  if (event.handle == nullptr) {
    cudaEvent_t made = nullptr;
    DIST_TRY(told(cudaEventCreate(&made), "cudaEventCreate"));
    event.handle = made;
  }
  Status recorded = told(cudaEventRecord(event_of(event), stream_of(stream)), "cudaEventRecord");
  if (recorded.ok()) return event;
  release_event(event);
  return recorded;
}

void CudaDevice::release_event(Event event) {
  const std::lock_guard lock(mutex_);
  spare_events_.push_back(event);
}

Result<bool> CudaDevice::passed(Event event) {
  DIST_TRY(make_current());
  const RelaxedCapture relaxed;
  const cudaError_t error = cudaEventQuery(event_of(event));
  if (error == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());
    return false;
  }
  DIST_TRY(told(error, "cudaEventQuery"));
  return true;
}

Status CudaDevice::wait(Stream stream, Event event) {
  DIST_TRY(make_current());
  return told(cudaStreamWaitEvent(stream_of(stream), event_of(event), cudaEventWaitDefault),
              "cudaStreamWaitEvent");
}

Result<Duration> CudaDevice::elapsed(Event from, Event to) {
  DIST_TRY(make_current());
  float milliseconds = 0;
  DIST_TRY(told(cudaEventElapsedTime(&milliseconds, event_of(from), event_of(to)),
                "cudaEventElapsedTime"));
  return Duration(static_cast<Duration::rep>(static_cast<double>(milliseconds) * 1e6));
}

Result<bool> CudaDevice::capturing(Stream stream) {
  DIST_TRY(make_current());
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  DIST_TRY(told(cudaStreamIsCapturing(stream_of(stream), &status), "cudaStreamIsCapturing"));
  return status != cudaStreamCaptureStatusNone;
}

Status CudaDevice::synchronize(Stream stream) {
  DIST_TRY(make_current());
  const RelaxedCapture relaxed;
  return told(cudaStreamSynchronize(stream_of(stream)), "cudaStreamSynchronize");
}

device::Launch CudaDevice::launch(Stream stream) {
  const std::lock_guard lock(mutex_);
  const auto scratch = scratch_.find(stream.handle);
  return {stream.handle, most_blocks_, scratch == scratch_.end() ? nullptr : scratch->second};
}

Status CudaDevice::copy(Stream stream, std::span<std::byte> to, std::span<const std::byte> from) {
  DIST_ASSERT(to.size() == from.size(), "copy: the spans differ in size");
  if (to.empty() || to.data() == from.data()) return {};
  DIST_TRY(make_current());
  return told(
      cudaMemcpyAsync(to.data(), from.data(), to.size(), cudaMemcpyDefault, stream_of(stream)),
      "cudaMemcpyAsync");
}

Status CudaDevice::fill(Stream stream, DType dtype, std::span<std::byte> bytes, double value) {
  DIST_ASSERT(bytes.size() % size_of(dtype) == 0, "fill: not whole elements");
  if (bytes.empty()) return {};
  DIST_TRY(make_current());
  const std::uint64_t pattern = fill_pattern(dtype, value);
  if (pattern == 0) {
    return told(cudaMemsetAsync(bytes.data(), 0, bytes.size(), stream_of(stream)),
                "cudaMemsetAsync");
  }
  return told(device::fill(launch(stream), bytes, size_of(dtype), pattern), "kernel fill");
}

Status CudaDevice::reduce(Stream stream, std::span<const std::span<std::byte>> outs,
                          std::span<const std::span<const std::byte>> sources, DType dtype,
                          Reduction reduction) {
  DIST_ASSERT(!outs.empty() && outs.size() <= kMostDeviceSources && !sources.empty() &&
                  sources.size() <= kMostDeviceSources,
              "reduce: no span, or too many");
  for (const auto& out : outs) {
    DIST_ASSERT(out.size() == sources[0].size(), "reduce: the spans differ in size");
  }
  for (const auto& source : sources) {
    DIST_ASSERT(source.size() == sources[0].size(), "reduce: the spans differ in size");
  }
  if (sources.size() == 1) {
    for (const auto& out : outs) DIST_TRY(copy(stream, out, sources[0]));
    return {};
  }
  DIST_TRY(make_current());
  return told(device::reduce(launch(stream), outs, sources, dtype, reduction), "kernel reduce");
}

Status CudaDevice::divide(Stream stream, std::span<std::byte> data, std::uint64_t count,
                          DType dtype) {
  DIST_ASSERT(count >= 1, "divide: by zero");
  DIST_TRY(make_current());
  return told(device::divide(launch(stream), data, count, nullptr, dtype), "kernel divide");
}

Status CudaDevice::divide_by(Stream stream, std::span<std::byte> data, const double* count,
                             DType dtype) {
  DIST_TRY(make_current());
  return told(device::divide(launch(stream), data, 0, count, dtype), "kernel divide");
}

Status CudaDevice::update(Stream stream, const UpdateRule& rule, DType dtype,
                          std::span<std::byte> parameters,
                          std::span<const std::span<const std::byte>> gradients,
                          std::array<std::byte*, kMostStates> states, const UpdateScalars* scalars,
                          const double* gate) {
  DIST_ASSERT(!gradients.empty() && gradients.size() <= kMostDeviceSources,
              "update: no gradient, or too many");
  DIST_ASSERT(can_train(dtype) && updates_parameters(rule), "update: not of this type or rule");
  DIST_TRY(make_current());
  return told(
      device::update(launch(stream), rule, dtype, parameters, gradients, states, scalars, gate),
      "kernel update");
}

Status CudaDevice::scale_by_norms(Stream stream, const NormScaling& scaling,
                                  const NormInputs& inputs, UpdateScalars* scaled, double* gate) {
  DIST_TRY(make_current());
  return told(device::scale_by_norms(launch(stream), scaling, inputs, scaled, gate),
              "kernel scale_by_norms");
}

Status CudaDevice::add_squares(Stream stream, DType dtype, std::span<const std::byte> values,
                               double* total) {
  DIST_TRY(make_current());
  const device::Launch with = launch(stream);
  DIST_ASSERT(with.scratch != nullptr, "add_squares: the stream is not of this device");
  return told(device::add_squares(with, dtype, values, total), "kernel add_squares");
}

Status CudaDevice::count_not_finite(Stream stream, DType dtype, std::span<const std::byte> values,
                                    std::uint32_t* count) {
  DIST_TRY(make_current());
  return told(device::count_not_finite(launch(stream), dtype, values, count),
              "kernel count_not_finite");
}

Status CudaDevice::convert(Stream stream, std::span<std::byte> out, DType out_dtype,
                           std::span<const std::byte> in, DType in_dtype, const float* factor) {
  DIST_ASSERT(out.size() / size_of(out_dtype) == in.size() / size_of(in_dtype),
              "convert: the spans differ in elements");
  DIST_TRY(make_current());
  return told(device::convert(launch(stream), out, out_dtype, in, in_dtype, factor),
              "kernel convert");
}

}  // namespace

Status device_available() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return {};
  static_cast<void>(cudaGetLastError());
  if (error == cudaErrorInsufficientDriver) {
    return Status::unavailable(
        "there is no NVIDIA driver here, or it is older than this build's CUDA");
  }
  if (error == cudaSuccess || error == cudaErrorNoDevice) {
    return Status::unavailable("there is no GPU here that this process may use");
  }
  return Status::unavailable(fmt::format("no GPU can be used: {}", text_of(error)));
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(cudaGetLastError());
  return 0;
}

Result<std::unique_ptr<Device>> open_device(int index) { return CudaDevice::open(index); }

}  // namespace dist
