// SPDX-License-Identifier: Apache-2.0
// What all_reduce_bench was asked to measure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libdist/status.h"

namespace dist::bench {

struct AllReduceBenchOptions {
  std::vector<int> ranks = {2, 4};
  std::vector<std::string> size_texts = {"4K", "64K", "1M", "16M", "100M", "528M"};
  std::vector<std::uint64_t> bytes;  ///< of each rank's buffer; validate() fills it from size_texts
  std::vector<std::string> libraries = {"libdist", "limit"};
  std::vector<std::string> peers = {"openmpi", "mpich", "gloo"};
  std::vector<std::string> transports = {"shm", "tcp"};
  std::vector<std::string> algorithms = {"auto"};            ///< of libdist
  std::vector<std::string> buffers = {"shared", "private"};  ///< of libdist in one host
  std::string touched = "both";                              ///< yes, no or both
  bool tuned = false;
  std::string wire = "none";  ///< 1gbit or 10gbit: over that instead of transports

  int rounds = 9;
  double turn_ms = 50;
  int timeout_seconds = 120;  ///< for one request to one job
  double memory_gib = 0;      ///< for all buffers at once; 0 = 60 % of what is available

  std::string json;
  std::string plots;
};

/// 4096, 64K, 1M, 2G (binary units) -> bytes.
Result<std::uint64_t> parse_size(std::string_view text);

/// "4 KiB", "528 MiB", "1000 B": the largest unit that divides it.
std::string size_text(std::uint64_t bytes);

/// Fills options from the command line. Returns the exit code when the program has nothing more to
/// do: 0 after --help, 1 after an error, which was printed.
std::optional<int> parse_all_reduce_options(int argc, const char* const* argv,
                                            AllReduceBenchOptions& options);

/// Ranges and combinations that CLI11 does not know about; fills options.bytes.
Status validate(AllReduceBenchOptions& options);

/// false = buffers are left alone between calls, true = every rank rewrites its own.
std::vector<bool> touched_modes(const AllReduceBenchOptions& options);

}  // namespace dist::bench
