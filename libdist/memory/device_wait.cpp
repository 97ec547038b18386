// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/device_wait.h"

#include <fmt/format.h>

#include <thread>

namespace dist {

Status wait_for_mark(Device& device, Event mark, Duration timeout,
                     const std::function<Status()>& failure) {
  const auto began = Clock::now();
  for (;;) {
    const auto passed = device.passed(mark);
    DIST_TRY(passed);
    if (*passed) return {};
    if (failure) DIST_TRY(failure());
    if (Clock::now() - began > timeout) {
      return Status::timed_out(fmt::format("{} did not come to an end of its work within {} s",
                                           device.name(),
                                           std::chrono::duration<double>(timeout).count()));
    }
    std::this_thread::sleep_for(kLookAgain);
  }
}

Status wait_for_stream(Device& device, Stream stream, Duration timeout, std::string_view what,
                       const std::function<Status()>& failure) {
  const auto mark = device.record(stream);
  DIST_TRY_BECAUSE(mark, what);
  const Status waited = wait_for_mark(device, *mark, timeout, failure);
  device.release_event(*mark);
  return waited.because(what);
}

}  // namespace dist
