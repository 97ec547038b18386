// SPDX-License-Identifier: Apache-2.0
// What gpu_check was asked to do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/gpu/command.h"
#include "libdist/status.h"

namespace dist::bench::gpu {

struct CheckOptions {
  std::string out = "bench/results/gpu";
  std::string build;  ///< "" = the build that this program is of
  std::vector<std::string> models = {"resnet50", "vgg16", "inception_v4", "resnet152", "vgg19"};
  std::vector<std::string> sections;  ///< empty: all
  double budget_s = 525;
  bool goals = false;  ///< goals that are not met make the check fail
  std::string python = "python3";
  std::string sanitizer;  ///< "" = compute-sanitizer of PATH or of the CUDA Toolkit
  double memory_gib = 0;  ///< 0 = what the driver says
  std::string assume_device;
};

/// Fills options from the command line. Returns the exit code when the program has nothing more to
/// do: 0 after --help, 1 after an error, which was printed.
std::optional<int> parse_options(int argc, const char* const* argv, CheckOptions& options);

/// The programs that runs start, seen from the directory of this one. Error: unavailable, where
/// trainer or launcher are not there.
Result<Tools> find_tools(const CheckOptions& options, const std::string& own_directory);

}  // namespace dist::bench::gpu
