// SPDX-License-Identifier: Apache-2.0
// Internal to device_cuda.cpp: calls of the CUDA runtime, told in the library's words.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "libdist/memory/device.h"

namespace dist::cuda {

inline ErrorCode code_of(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? ErrorCode::resource : ErrorCode::unavailable;
}

inline std::string text_of(cudaError_t error) {
  return fmt::format("{} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
}

// The last error of the thread is forgotten: whoever asks for it later means another call.
inline Status status_of(cudaError_t error, std::string_view device, std::string_view call) {
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());
  return Status(code_of(error), fmt::format("{}: {}: {}", device, call, text_of(error)));
}

inline cudaStream_t stream_of(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }
inline cudaEvent_t event_of(Event event) { return static_cast<cudaEvent_t>(event.handle); }

// Lets this thread allocate and ask for events while another one captures a graph.
class RelaxedCapture {
 public:
  RelaxedCapture() { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~RelaxedCapture() { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// Whether what is on the stream ends within a minute. Who captures the stream must not be disturbed
// by the question.
inline bool runs_dry(cudaStream_t stream) {
  constexpr Duration kLongest = std::chrono::seconds(60);
  const auto began = Clock::now();
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  static_cast<void>(cudaStreamIsCapturing(stream, &capture));
  if (capture != cudaStreamCaptureStatusNone) return true;
  while (cudaStreamQuery(stream) == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());
    if (Clock::now() - began > kLongest) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  static_cast<void>(cudaGetLastError());
  return true;
}

inline std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (std::size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

// Where the allocation begins that a pointer lies in. By the driver, which is not linked: programs
// start where there is none.
inline Result<std::uint64_t> offset_of(const std::byte* pointer, std::string_view device) {
  constexpr unsigned kVersion = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  DIST_TRY(status_of(cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &function, kVersion,
                                                      cudaEnableDefault, &found),
                     device, "cudaGetDriverEntryPointByVersion"));
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    return Status::unavailable(fmt::format("{}: the driver has no cuMemGetAddressRange", device));
  }
  const auto at = static_cast<CUdeviceptr>(reinterpret_cast<std::uintptr_t>(pointer));
  CUdeviceptr base = 0;
  std::size_t size = 0;
  const CUresult error =
      reinterpret_cast<decltype(&cuMemGetAddressRange)>(function)(&base, &size, at);
  if (error != CUDA_SUCCESS) {
    return Status::unavailable(
        fmt::format("{}: cuMemGetAddressRange: error {}", device, static_cast<int>(error)));
  }
  return static_cast<std::uint64_t>(at - base);
}

}  // namespace dist::cuda
