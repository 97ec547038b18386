// SPDX-License-Identifier: Apache-2.0
// Real processes for the tests of programs: started, watched, signalled, and always collected.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace dist::test {

/// How a program ended.
struct Finished {
  int exit_code = 0;  ///< 128 + signal when it was killed
  std::string out;
  std::string err;
  double seconds = 0;
};

/// A running program. Variables of launchers (DIST_*, OMPI_*, PMI*) are taken out of its
/// environment, `environment` ("NAME=value") is added. The destructor kills it.
class Program {
 public:
  explicit Program(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int signal) const;

  /// Reads its output until stdout and stderr hold `text` `times` times; throws after `seconds` or
  /// at its end.
  void wait_for(const std::string& text, int times = 1, double seconds = 60);

  /// Reads on until it has ended; kills it and throws after `seconds`.
  Finished wait(double seconds = 120);

  const std::string& out() const { return finished_.out; }

 private:
  bool pump(int timeout_ms);

  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  double begin_s_ = 0;
  Finished finished_;
};

/// Starts and waits.
Finished run_program(const std::vector<std::string>& command,
                     const std::vector<std::string>& environment = {}, double seconds = 120);

/// `path` of a program of this build, e.g. "distrun".
std::string built(const std::string& name);

/// {"distrun", "-n", ranks, "--", program, arguments...}
std::vector<std::string> with_distrun(int ranks, const std::string& program,
                                      const std::vector<std::string>& arguments = {});
/// The same with the mpirun that the build found.
std::vector<std::string> with_mpirun(int ranks, const std::string& program,
                                     const std::vector<std::string>& arguments = {});

/// Whether the process exists and is no zombie.
bool alive(pid_t pid);

/// The direct children of a process whose program is called `name`, in the order of their start.
std::vector<pid_t> children_of(pid_t parent, const std::string& name);

/// Waits until none of them is alive; false after `seconds`.
bool all_gone(const std::vector<pid_t>& pids, double seconds);

/// Numbers that follow `key` in `text`, e.g. pids after "pid ".
std::vector<pid_t> numbers_after(const std::string& text, const std::string& key);

/// A private directory that goes away with the object.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  std::string path(const std::string& name = "") const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string read_text(const std::string& path);

}  // namespace dist::test
