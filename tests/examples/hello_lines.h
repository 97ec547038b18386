// SPDX-License-Identifier: Apache-2.0
// What the hello programs print on three ranks, whoever starts them.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "tests/examples/program.h"

namespace dist::test {

inline const std::vector<std::string> kAllReduceLines = {
    "rank 0 of 3 brought 1 10 100; the sums are 6 60 600",
    "rank 1 of 3 brought 2 20 200; the sums are 6 60 600",
    "rank 2 of 3 brought 3 30 300; the sums are 6 60 600"};

inline const std::vector<std::string> kSyncLines = {
    "sync-ps  rank 0 step 1: weight 2 2, bias 2, 0 versions behind",
    "sync-ps  rank 0 step 2: weight 4 4, bias 4, 0 versions behind",
    "sync-ps  rank 1 step 1: weight 2 2, bias 2, 0 versions behind",
    "sync-ps  rank 1 step 2: weight 4 4, bias 4, 0 versions behind",
    "sync-ps  rank 2 step 1: weight 2 2, bias 2, 0 versions behind",
    "sync-ps  rank 2 step 2: weight 4 4, bias 4, 0 versions behind"};

inline std::vector<std::string> sorted_lines(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

/// The sorted lines that sync-ps printed.
inline std::vector<std::string> sync_lines(const std::string& text) {
  auto lines = sorted_lines(text);
  std::erase_if(lines, [](const std::string& line) {
    return line.find("async") != line.npos || line.find("sync-ps") == line.npos;
  });
  return lines;
}

inline int count_lines(const std::string& text, const std::string& part) {
  const auto lines = sorted_lines(text);
  return static_cast<int>(std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
    return line.find(part) != line.npos;
  }));
}

/// The same lines as distrun heads them, one rank after the other.
inline std::vector<std::string> headed(const std::vector<std::string>& lines) {
  std::vector<std::string> out;
  for (const std::string& line : lines) {
    out.push_back(fmt::format("[{}] {}", line[line.find("rank ") + 5], line));
  }
  return out;
}

}  // namespace dist::test
