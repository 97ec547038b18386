// SPDX-License-Identifier: Apache-2.0
// Which process, so that a number the kernel has given to another process since is told apart.
#pragma once

#include <cstdint>

namespace dist {

/// Plain data: lies in shared memory.
struct ProcessIdentity {
  std::int32_t pid = 0;
  std::uint32_t pid_namespace = 0;  ///< inode of /proc/PID/ns/pid; 0 where it cannot be read
  std::uint64_t start_ticks = 0;    ///< since boot

  bool operator==(const ProcessIdentity&) const = default;
};

/// The calling process.
ProcessIdentity this_process();

/// False once the process has ended, also while its parent has not yet waited for it. Only a
/// process of the own pid namespace can be judged; others count as alive.
bool is_alive(const ProcessIdentity& process);

}  // namespace dist
