// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_watch.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <utility>

namespace dist::allreduce {
namespace {

constexpr Duration kShortestWait = std::chrono::microseconds(20);
constexpr Duration kLongestWait = std::chrono::milliseconds(2);

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

DeviceWatch::DeviceWatch(Device& device, DeviceWatchOptions options)
    : device_(device), options_(std::move(options)), thread_([this] { loop(); }) {
  pthread_setname_np(thread_.native_handle(), "dist-watch");
}

DeviceWatch::~DeviceWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (const Mark& mark : marks_) device_.release_event(mark.event);
}

Status DeviceWatch::mark(Stream stream, std::string what) {
  const auto captured = device_.capturing(stream);
  DIST_TRY(captured);
  if (*captured) return {};
  const auto event = device_.record(stream);
  DIST_TRY(event);
  const std::lock_guard lock(mutex_);
  if (marks_.empty()) moved_ = Clock::now();
  marks_.push_back({*event, std::move(what)});
  return {};
}

// Looks itself: the thread's interval is long for somebody who waits.
Status DeviceWatch::wait() {
  std::unique_lock lock(mutex_);
  for (Duration pause = kShortestWait; failure_.ok(); pause = std::min(2 * pause, kLongestWait)) {
    const Status taken = take_passed();
    if (!taken.ok()) {
      lock.unlock();
      return fail(taken);
    }
    if (marks_.empty()) return {};
    changed_.wait_for(lock, pause);
  }
  changed_.wait(lock, [&] { return ended_; });
  return failure_;
}

bool DeviceWatch::idle() {
  const std::lock_guard lock(mutex_);
  return take_passed().ok() && marks_.empty();
}

Status DeviceWatch::fail(const Status& why) {
  std::unique_lock lock(mutex_);
  note(why);
  changed_.notify_all();
  changed_.wait(lock, [&] { return ended_; });
  return failure_;
}

Status DeviceWatch::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void DeviceWatch::loop() {
  std::unique_lock lock(mutex_);
  while (failure_.ok()) {
    changed_.wait_for(lock, options_.interval, [&] { return stopping_ || !failure_.ok(); });
    if (stopping_ && failure_.ok()) return;
    note(take_passed());
    note(overdue());
    if (!failure_.ok() || !options_.failure_elsewhere) continue;
    lock.unlock();
    const Status elsewhere = options_.failure_elsewhere();
    lock.lock();
    note(elsewhere);
  }
  const Status why = failure_;
  lock.unlock();
  const Status told = options_.end ? options_.end(why) : why;
  lock.lock();
  failure_ = told;
  ended_ = true;
  changed_.notify_all();
}

// With mutex_ held. Whoever looks before it has been ended sees the same story, but for its end.
void DeviceWatch::note(const Status& why) {
  if (failure_.ok()) failure_ = why.because(options_.name);
}

// With mutex_ held.
Status DeviceWatch::take_passed() {
  while (!marks_.empty()) {
    const auto passed = device_.passed(marks_.front().event);
    DIST_TRY_BECAUSE(passed, marks_.front().what);
    if (!*passed) return {};
    device_.release_event(marks_.front().event);
    marks_.pop_front();
    moved_ = Clock::now();
  }
  return {};
}

// With mutex_ held.
Status DeviceWatch::overdue() const {
  if (marks_.empty() || Clock::now() - moved_ < options_.timeout) return {};
  return Status::timed_out(
      fmt::format("{} has not ended, and nothing has for {} s; {} operation(s) wait",
                  marks_.front().what, seconds(options_.timeout), marks_.size()));
}

}  // namespace dist::allreduce
