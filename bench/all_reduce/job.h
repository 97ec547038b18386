// SPDX-License-Identifier: Apache-2.0
// A contestant of real processes, led through FIFOs (the protocol is in bench/peers/peer.h).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "bench/all_reduce/contestant.h"

namespace dist::bench {

/// While it lives, SIGINT, SIGTERM and SIGHUP wait in line instead of ending this process.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// The signal that came, now or earlier; 0 = none.
  int pending();
  /// What was blocked before; a child wants it back.
  const sigset_t& before() const { return before_; }

 private:
  sigset_t set_ = {};
  sigset_t before_ = {};
  int got_ = 0;
};

class Job : public Contestant {
 public:
  /// Makes `directory` (which must not exist) with FIFOs and flags, starts the processes, and waits
  /// until every rank is ready. `timeout` holds for each request. Error: what failed, with the last
  /// lines that the processes wrote.
  static Result<std::unique_ptr<Job>> start(JobSpec spec, const std::string& directory,
                                            std::chrono::seconds timeout, Interrupts& interrupts);
  ~Job() override { end(); }

  const JobSpec& spec() const override { return spec_; }
  Status allocate(std::uint64_t bytes) override;
  Status release() override;
  Result<std::vector<double>> run(int warmups, int calls, bool touched) override;
  Result<std::string> check() override;
  void end() override;

  /// What rank 0 called itself: name and version of the library.
  const std::string& version() const { return version_; }

  /// Sends a line to every rank and collects one line from each, by rank.
  Result<std::vector<std::string>> ask(const std::string& request);

 private:
  struct Line {
    int to = -1;
    int from = -1;
    std::string text;  ///< read but not consumed
  };

  Job(JobSpec spec, std::string directory, std::chrono::seconds timeout, Interrupts& interrupts)
      : spec_(std::move(spec)),
        directory_(std::move(directory)),
        timeout_(timeout),
        interrupts_(interrupts) {}
  Status make_directory();
  Status start_processes();
  Result<std::vector<std::string>> collect();
  bool read_line(Line& line, std::string* out);
  Status dead_child();
  bool all_gone();
  bool wait_for_end(std::chrono::milliseconds time);
  void signal_all(int signal);
  Status failed(const Status& status) const;

  JobSpec spec_;
  std::string directory_;
  std::chrono::seconds timeout_;
  Interrupts& interrupts_;
  std::vector<Line> lines_;
  std::vector<pid_t> children_;  ///< still running
  std::string version_;
  bool broken_ = false;  ///< a rank did not answer as it should
};

/// Takes "times 1200 1300 ..." of every rank apart: microseconds of each call, the slowest rank's.
Result<std::vector<double>> slowest_times_us(const std::vector<std::string>& replies,
                                             std::size_t calls);

}  // namespace dist::bench
