// SPDX-License-Identifier: Apache-2.0
// One job of the launcher: N ranks of a program on this machine, from the first fork to the last
// exit. Either all of it runs or none of it: when one rank fails the others are ended, unless the
// job is elastic.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace launcher {

struct JobOptions {
  int ranks = 1;
  bool prefix = true;                        ///< head each line with "[rank] "
  std::chrono::duration<double> timeout{0};  ///< of the whole job; 0 = none
  std::chrono::duration<double> grace{2};    ///< others get so long to leave after a failure
  /// Not 0: elastic. The last so many ranks are parameter servers, whose failure ends the job; that
  /// of another rank does not.
  int servers = 0;
  /// Elastic: how often, in all, a worker that failed is started again, as its next incarnation;
  /// never once a rank has ended well: then the job is about to end.
  int restarts = 0;
  std::vector<std::string> command;
};

/// Runs the job and tells its story on stderr ("distrun: ..."). Returns the exit code for the
/// shell: 0; the first failing rank's, or 128 + signal; 124 after the timeout; 126 or 127 when the
/// program cannot be executed; 1 when the job could not be started.
int run_job(const JobOptions& options);

}  // namespace launcher
