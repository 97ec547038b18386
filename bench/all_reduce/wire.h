// SPDX-License-Identifier: Apache-2.0
// A wire of a given rate between the ranks: network namespaces joined by a bridge, each with a rate
// limit on what it sends. Nothing of it shows in the machine's own network.
#pragma once

#include <memory>
#include <string>

#include "bench/all_reduce/lineup.h"
#include "libdist/status.h"

namespace dist::bench {

class Wire {
 public:
  /// Needs root, iproute2 and the kernel's tbf. `rate` as tc spells it ("1gbit"); the namespaces
  /// are called `prefix`-0, ... and `prefix`-hub. Error: unavailable, with what the commands said.
  static Result<std::unique_ptr<Wire>> make(const std::string& rate, int ranks,
                                            const std::string& prefix, const std::string& log_path);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  /// How ranks get into their namespaces, and where they listen.
  Network network() const;

 private:
  Wire(std::string rate, int ranks, std::string prefix, std::string log_path)
      : rate_(std::move(rate)),
        ranks_(ranks),
        prefix_(std::move(prefix)),
        log_path_(std::move(log_path)) {}

  std::string rate_;
  int ranks_;
  std::string prefix_;
  std::string log_path_;
};

/// Pure: the shell script that makes the namespaces.
std::string wire_script(const std::string& rate, int ranks, const std::string& prefix);

}  // namespace dist::bench
