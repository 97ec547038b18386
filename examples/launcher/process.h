// SPDX-License-Identifier: Apache-2.0
// Processes as the launcher needs them: starting a rank, finding whoever belongs to a job, and the
// guard that cleans up behind a launcher that was killed.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "libdist/status.h"

namespace launcher {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { reset(); }

  int get() const { return number_; }
  bool open() const { return number_ >= 0; }
  void reset();
  int release();

 private:
  int number_ = -1;
};

struct Pipe {
  Descriptor read;
  Descriptor write;
};
dist::Result<Pipe> make_pipe();

/// A started rank and the reading ends of its output.
struct Child {
  pid_t pid = -1;
  Descriptor out;
  Descriptor err;
};

/// What became of spawn().
struct Spawned {
  Child child;
  int exec_error = 0;  ///< errno of a program that could not be executed; then there is no child
};

/// Starts `command` (searched in PATH) with `environment` ("NAME=value") in a process group of its
/// own, standard input empty, and tied to this process: it dies with us. Returns when the program
/// has replaced the fork, or could not.
dist::Result<Spawned> spawn(const std::vector<std::string>& command,
                            const std::vector<std::string>& environment);

/// Kills (SIGKILL) every process whose environment says DIST_JOB=`job`, also those that left their
/// process group; returns how many it found.
int kill_job(const std::string& job);

/// A process that outlives a killed launcher just long enough to kill the job and remove its
/// directory.
class Guard {
 public:
  /// Forks it. Call before the first rank is started.
  static dist::Result<Guard> start(const std::string& job, const std::string& directory);
  /// The launcher has cleaned up itself: the guard ends and is collected.
  void dismiss();

 private:
  Descriptor tie_;  // its end of file tells the guard that the launcher is gone
  pid_t pid_ = -1;
};

}  // namespace launcher
