// SPDX-License-Identifier: Apache-2.0
// Broken invariants. They stop the process, in release builds too: going on would train on garbage.
// A broken world (peer gone, disk full, bad input) is never checked here: that is a Status.
#pragma once

namespace dist::detail {
[[noreturn]] void assertion_failed(const char* condition, const char* message, const char* file,
                                   int line);
}

#define DIST_ASSERT(condition, message) \
  ((condition) ? static_cast<void>(0)   \
               : ::dist::detail::assertion_failed(#condition, message, __FILE__, __LINE__))
