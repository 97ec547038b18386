// SPDX-License-Identifier: Apache-2.0
// The command lines of gpu_check's runs. Pure.
#pragma once

#include <string>
#include <vector>

#include "bench/gpu/plan.h"

namespace dist::bench::gpu {

struct Tools {
  std::string trainer;
  std::string distrun;
  std::string ctest = "ctest";
  std::string build;  ///< directory of this build, for ctest
  std::string python = "python3";
  std::string peer;       ///< torch_peer.py
  std::string sanitizer;  ///< compute-sanitizer; empty: there is none
};

/// The program appends its record to `json_path`; with run.profile the trainer writes layer times
/// to `profile_path`.
std::vector<std::string> command_of(const Run& run, const Tools& tools,
                                    const std::string& json_path, const std::string& profile_path);

/// Describes a model without training it.
std::vector<std::string> describe_command(const std::string& model, const Tools& tools,
                                          const std::string& json_path);

/// All tests with the label gpu, results as JUnit in a file below the build. CTest ends what runs
/// at `stop_time` (HH:MM:SS of today or tomorrow) and still writes them.
std::vector<std::string> tests_command(const Tools& tools, const std::string& junit_path,
                                       const std::string& stop_time);

/// Names and command lines of those tests, as JSON on standard output.
std::vector<std::string> list_tests_command(const Tools& tools);

/// A test's own command line under memcheck; ends with 86 where memcheck finds something.
std::vector<std::string> sanitizer_command(const std::vector<std::string>& test,
                                           const Tools& tools);
inline constexpr int kSanitizerFound = 86;

}  // namespace dist::bench::gpu
