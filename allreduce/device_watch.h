// SPDX-License-Identifier: Apache-2.0
// Looks after work on a device that may never end: marks behind operations in the order in which
// they were enqueued, and a thread that asks whether they pass.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "libdist/memory/device.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::allreduce {

struct DeviceWatchOptions {
  /// The head of every failure's story.
  std::string name = {};
  /// No mark passed for so long though one was waiting: timed_out.
  Duration timeout = std::chrono::seconds(120);
  /// How often the thread looks.
  Duration interval = std::chrono::milliseconds(20);
  /// What else may have failed; asked by the thread every interval.
  std::function<Status()> failure_elsewhere = {};
  /// Called by the thread, once, after the first failure: ends what is in flight, so that streams
  /// run dry, and returns the failure with what there is to add.
  std::function<Status(const Status&)> end = {};
};

/// All calls but the constructor are thread-safe. Ends with its owner; marks may be left then.
class DeviceWatch {
 public:
  /// `device` outlives the watch.
  DeviceWatch(Device& device, DeviceWatchOptions options);
  ~DeviceWatch();
  DeviceWatch(const DeviceWatch&) = delete;
  DeviceWatch& operator=(const DeviceWatch&) = delete;

  /// Puts a mark at this place of the stream; `what` is before it. Nothing in a stream that is
  /// being captured: what replays the capture marks its stream itself.
  Status mark(Stream stream, std::string what);

  /// Blocks until all marks have passed, or there is a failure.
  Status wait();

  /// Whether all marks have passed.
  bool idle();

  /// Notes a failure, unless there was one, and returns when it has been ended.
  Status fail(const Status& why);

  /// The first failure, or ok. Never blocks.
  Status failure() const;

 private:
  struct Mark {
    Event event;
    std::string what;
  };

  void loop();
  void note(const Status& why);
  Status take_passed();
  Status overdue() const;

  Device& device_;
  const DeviceWatchOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Mark> marks_;  // guarded by mutex_, like all below
  TimePoint moved_;         // the first mark came to be the first
  Status failure_;
  bool ended_ = false;  // options_.end has returned
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace dist::allreduce
