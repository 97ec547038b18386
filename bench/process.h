// SPDX-License-Identifier: Apache-2.0
// Runs one child to its end: output to a file, deadline, interruption. Single-threaded callers
// only.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace dist::bench {

struct ProcessResult {
  int exit_code = 0;  ///< of the child; 128 + signal where a signal ended it; 127 not startable
  bool timed_out = false;  ///< it was ended because the deadline passed
  int interrupted_by = 0;  ///< SIGINT, SIGTERM or SIGHUP that this process got meanwhile; 0 = none
  double wall_seconds = 0;
};

/// Starts argv[0] (searched in PATH) in a process group of its own, standard output and error to
/// `log_path`, and waits. After `timeout`, or when this process is told to end, the group gets
/// SIGTERM and ten seconds later SIGKILL. `tick` is called about once a second with the seconds
/// so far. The child gets SIGTERM if this process dies.
ProcessResult run_process(const std::vector<std::string>& argv, const std::string& log_path,
                          std::chrono::seconds timeout, const std::function<void(double)>& tick);

/// The last lines of a file, each after `indent`; "" where it cannot be read.
std::string tail_of(const std::string& path, std::size_t lines, const std::string& indent);

}  // namespace dist::bench
