// SPDX-License-Identifier: Apache-2.0
// What the report says about the machine and this process.
#pragma once

#include <cstdint>
#include <string>

#include "libdist/status.h"

namespace train {

struct Machine {
  std::string host;
  std::string cpu;  ///< model name from /proc/cpuinfo
  int cores = 1;    ///< logical
};
Machine this_machine();

/// The most memory this process has held so far (VmHWM), shared pages included; 0: unknown.
std::uint64_t peak_memory_bytes();

/// Whether `path` can be opened for appending; leaves nothing behind. `what` heads the message.
dist::Status check_writable(const std::string& path, const std::string& what);

/// UTC now, as 2025-01-31T12:34:56Z.
std::string utc_now();

}  // namespace train
