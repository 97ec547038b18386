// SPDX-License-Identifier: Apache-2.0
// The threads of this process, as the system counts them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace dist::test {

/// Without those that are ending: the system takes a joined thread off its list a moment after
/// the join, but marks it (PF_EXITING in the flags of its stat file) before.
inline std::size_t count_threads() {
  constexpr unsigned kExiting = 0x4;
  std::size_t threads = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "stat");
    std::string stat;
    if (!std::getline(file, stat)) continue;  // gone meanwhile
    // After the name in brackets: state, five ids, flags.
    std::istringstream fields(stat.substr(stat.rfind(')') + 1));
    std::string field;
    for (int skipped = 0; skipped < 6; ++skipped) fields >> field;
    unsigned flags = 0;
    if (fields >> flags && (flags & kExiting) == 0) ++threads;
  }
  return threads;
}

}  // namespace dist::test
