// SPDX-License-Identifier: Apache-2.0
// A bench program run as its user would, for the tests of the programs themselves.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/scratch.h"

namespace dist::test {

/// The exit code of a shell command whose output nobody sees; -1 where a signal ended it.
inline int run(const std::string& command) {
  const int status = std::system((command + " >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// The records that `command --json FILE arguments` writes; none where it fails.
inline std::vector<nlohmann::json> records_of(const std::string& command,
                                              const std::string& arguments) {
  const ScratchFolder folder;
  const std::string path = folder.path("records.jsonl");
  if (run(command + " --json " + path + " " + arguments) != 0) return {};
  std::vector<nlohmann::json> records;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) records.push_back(nlohmann::json::parse(line));
  return records;
}

}  // namespace dist::test
