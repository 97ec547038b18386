// SPDX-License-Identifier: Apache-2.0
// What CTest says: which tests there are, and how they went. Pure.
#pragma once

#include <string>
#include <vector>

#include "libdist/status.h"

namespace dist::bench::gpu {

struct TestCase {
  std::string name;
  std::string status;  ///< run, fail, notrun (skipped) or disabled
  double seconds = 0;
};

/// The cases of a file that ctest --output-junit wrote.
Result<std::vector<TestCase>> parse_junit(const std::string& text);

/// Whether CTest's log says that it ended the test at a deadline.
bool ended_by_deadline(const std::string& log, const std::string& name);

struct TestCommand {
  std::string name;
  std::vector<std::string> argv;
};

/// The tests of ctest --show-only=json-v1.
Result<std::vector<TestCommand>> parse_test_list(const std::string& text);

}  // namespace dist::bench::gpu
