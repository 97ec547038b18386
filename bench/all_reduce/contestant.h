// SPDX-License-Identifier: Apache-2.0
// One job of a contest: a library in one configuration, and what can be asked of it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "libdist/status.h"

namespace dist::bench {

/// A process to start: argv (argv[0] is searched in PATH) and what it finds in its environment on
/// top of ours. "{control}" stands for the job's control directory in both.
struct Command {
  std::vector<std::string> words;
  std::vector<std::pair<std::string, std::string>> environment;
};

/// Who takes part. `contest` is the transport that is contested; `transport` what the job really
/// uses: Gloo knows TCP only and still is what a user could take in one host.
struct JobSpec {
  std::string library;    ///< libdist, openmpi, mpich, gloo, limit
  std::string algorithm;  ///< "default" where the library chooses
  std::string contest;    ///< shm, tcp, or the rate of a wire
  std::string transport;
  int ranks = 2;
  std::string buffers = "private";
  bool tuned = false;
  std::vector<Command> commands;  ///< one a rank, or one that starts them all

  /// "libdist ring, shared", "openmpi tuned", "gloo halving_doubling": the row's name in a table.
  std::string name() const;
};

/// Functions fail once and for good: after a failure only end() may be called.
class Contestant {
 public:
  Contestant() = default;
  Contestant(const Contestant&) = delete;
  Contestant& operator=(const Contestant&) = delete;
  virtual ~Contestant() = default;

  virtual const JobSpec& spec() const = 0;
  virtual Status allocate(std::uint64_t bytes) = 0;
  virtual Status release() = 0;
  /// Microseconds of each timed call, the slowest rank's.
  virtual Result<std::vector<double>> run(int warmups, int calls, bool touched) = 0;
  /// "" when the sums are right, else what is wrong.
  virtual Result<std::string> check() = 0;
  /// Ends all its processes. Idempotent.
  virtual void end() = 0;
};

}  // namespace dist::bench
