// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/tuner.h"

#include <algorithm>
#include <limits>

#include "examples/nn/cudnn/check.h"

namespace nn::cudnn {
namespace {

class TimedEvent {
 public:
  TimedEvent() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~TimedEvent() { cudaEventDestroy(event_); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

std::uint64_t aligned(std::uint64_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

std::vector<void*> Tuner::scratch(const std::vector<std::uint64_t>& sizes) {
  std::uint64_t total = kMostWorkspaceBytes;
  for (const std::uint64_t size : sizes) total += aligned(size);
  if (memory_.bytes().size() < total) {
    memory_ = {};
    auto memory = device_->allocate(dist::Bytes(total), dist::MemoryKind::device);
    if (!memory.ok()) throw Failure(memory.status().message());
    memory_ = *std::move(memory);
  }
  std::byte* next = memory_.bytes().data();
  std::vector<void*> pieces{next};
  next += kMostWorkspaceBytes;
  for (const std::uint64_t size : sizes) {
    pieces.push_back(next);
    next += aligned(size);
  }
  return pieces;
}

double Tuner::milliseconds(const std::function<void()>& work) const {
  constexpr int kRuns = 4;  // the first one loads code and does not count
  const cudaStream_t stream = handle_of(stream_);
  const TimedEvent begin, end;
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns; ++run) {
    check(cudaEventRecord(begin.get(), stream), "cudaEventRecord");
    try {
      work();
    } catch (const Failure&) {
      return std::numeric_limits<double>::infinity();
    }
    check(cudaEventRecord(end.get(), stream), "cudaEventRecord");
    check(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
    float elapsed = 0;
    check(cudaEventElapsedTime(&elapsed, begin.get(), end.get()), "cudaEventElapsedTime");
    if (run > 0) best = std::min(best, static_cast<double>(elapsed));
  }
  return best;
}

}  // namespace nn::cudnn
