// SPDX-License-Identifier: Apache-2.0
// The host waits for a stream, with a deadline and an eye on what else may fail meanwhile.
#pragma once

#include <functional>
#include <string_view>

#include "libdist/memory/device.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// How long the host sleeps between two looks at a mark: less than a copy of a few 100 KB takes.
inline constexpr Duration kLookAgain = std::chrono::microseconds(20);

/// Blocks the calling thread until the mark has passed; it stays the caller's. Errors: the
/// device's, those of `failure` (which is asked meanwhile; may be empty), timed_out.
Status wait_for_mark(Device& device, Event mark, Duration timeout,
                     const std::function<Status()>& failure = {});

/// Blocks the calling thread until all that is on the stream now has ended. Errors: as above,
/// all headed by `what`.
Status wait_for_stream(Device& device, Stream stream, Duration timeout, std::string_view what,
                       const std::function<Status()>& failure = {});

}  // namespace dist
