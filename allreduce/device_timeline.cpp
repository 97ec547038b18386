// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_timeline.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace dist::allreduce {
namespace {

constexpr Duration kShortestPause = std::chrono::microseconds(20);
constexpr Duration kLongestPause = std::chrono::milliseconds(2);

// Asks until the answer is yes, or an error.
Status poll(const std::function<Result<bool>()>& condition) {
  for (Duration pause = kShortestPause;; pause = std::min(2 * pause, kLongestPause)) {
    const auto answer = condition();
    DIST_TRY(answer);
    if (*answer) return {};
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace

DeviceTimeline::~DeviceTimeline() {
  for (const Step& step : steps_) release(step);
  if (current_) release(*current_);
}

Status DeviceTimeline::prepare() {
  auto slots = device_.allocate(Bytes(kMostSteps * sizeof(double)), MemoryKind::pinned);
  DIST_TRY(slots);
  slots_ = *std::move(slots);
  return {};
}

Status DeviceTimeline::begin_step(Stream collectives) {
  const auto captured = device_.capturing(collectives);
  DIST_TRY(captured);
  DIST_TRY(collect());
  if (*captured || steps_.size() == kMostSteps) return {};
  current_ = Step{};
  return record(collectives, &current_->began);
}

Status DeviceTimeline::end_backward(Stream program) {
  return current_ ? record(program, &current_->backward) : Status();
}

Status DeviceTimeline::end_step(Stream collectives, Stream program,
                                std::span<const std::byte> contributors) {
  if (!current_) return {};
  current_->slot = next_slot_++ % kMostSteps;
  const auto slot = slots_.bytes().subspan(current_->slot * sizeof(double), sizeof(double));
  DIST_TRY(record(collectives, &current_->exchanged));
  DIST_TRY(device_.copy(program, slot, contributors));
  DIST_TRY(record(program, &current_->done));
  steps_.push_back(*current_);
  current_.reset();
  return {};
}

Result<DeviceStepTimes> DeviceTimeline::last() {
  DIST_TRY(collect());
  return last_;
}

Status DeviceTimeline::wait(const std::function<Status()>& failure) {
  return poll([&]() -> Result<bool> {
    DIST_TRY(failure());
    DIST_TRY(collect());
    return steps_.empty();
  });
}

Status DeviceTimeline::wait_for(Stream stream, Duration grace) {
  const auto mark = device_.record(stream);
  DIST_TRY(mark);
  const auto deadline = Clock::now() + grace;
  Status passed = poll([&]() -> Result<bool> {
    if (Clock::now() > deadline) return Status::timed_out("the stream does not run dry");
    return device_.passed(*mark);
  });
  device_.release_event(*mark);
  return passed;
}

Status DeviceTimeline::record(Stream stream, Event* event) {
  const auto recorded = device_.record(stream);
  DIST_TRY(recorded);
  *event = *recorded;
  return {};
}

void DeviceTimeline::release(const Step& step) {
  for (const Event event : {step.began, step.backward, step.exchanged, step.done}) {
    if (event.handle != nullptr) device_.release_event(event);
  }
}

// What is over, in order.
Status DeviceTimeline::collect() {
  while (!steps_.empty()) {
    const Step step = steps_.front();
    // On two streams: either may be the last.
    for (const Event event : {step.exchanged, step.done}) {
      const auto over = device_.passed(event);
      DIST_TRY(over);
      if (!*over) return {};
    }
    const auto busy = device_.elapsed(step.began, step.exchanged);
    DIST_TRY(busy);
    const auto exposed = device_.elapsed(step.backward, step.done);
    DIST_TRY(exposed);
    double contributors = 0;
    std::memcpy(&contributors, slots_.bytes().data() + step.slot * sizeof(double),
                sizeof contributors);
    last_ = {static_cast<int>(contributors), *busy, *exposed};
    release(step);
    steps_.pop_front();
  }
  return {};
}

}  // namespace dist::allreduce
