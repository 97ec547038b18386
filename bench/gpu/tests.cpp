// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/tests.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>

namespace dist::bench::gpu {
namespace {

// The value of an attribute of one XML tag; "" where it is not there. Test names need no escapes.
std::string attribute(std::string_view tag, std::string_view name) {
  const std::string key = fmt::format(" {}=\"", name);
  const auto at = tag.find(key);
  if (at == std::string_view::npos) return "";
  const auto begin = at + key.size();
  const auto end = tag.find('"', begin);
  return end == std::string_view::npos ? "" : std::string(tag.substr(begin, end - begin));
}

}  // namespace

Result<std::vector<TestCase>> parse_junit(const std::string& text) {
  if (text.find("<testsuite") == std::string::npos) {
    return Status::protocol("not what ctest --output-junit writes");
  }
  std::vector<TestCase> cases;
  constexpr std::string_view kTag = "<testcase ";
  for (auto at = text.find(kTag); at != std::string::npos; at = text.find(kTag, at + 1)) {
    // From the blank on, so that every attribute has one before it.
    const auto begin = at + kTag.size() - 1;
    const std::string_view tag = std::string_view(text).substr(begin, text.find('>', at) - begin);
    cases.push_back({attribute(tag, "name"), attribute(tag, "status"),
                     std::atof(attribute(tag, "time").c_str())});
    if (cases.back().name.empty() || cases.back().status.empty()) {
      return Status::protocol("a test case of ctest's without name or status");
    }
  }
  return cases;
}

bool ended_by_deadline(const std::string& log, const std::string& name) {
  std::istringstream lines(log);
  const std::string test = fmt::format(": {} ", name);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(test) != std::string::npos && line.find("***Timeout") != std::string::npos) {
      return true;
    }
  }
  return false;
}

Result<std::vector<TestCommand>> parse_test_list(const std::string& text) {
  const auto list = nlohmann::json::parse(text, nullptr, false);
  if (list.is_discarded() || !list.contains("tests")) {
    return Status::protocol("not what ctest --show-only=json-v1 writes");
  }
  std::vector<TestCommand> commands;
  for (const auto& test : list["tests"]) {
    if (!test.contains("command")) continue;  // not built
    commands.push_back({test.value("name", ""), test["command"].get<std::vector<std::string>>()});
  }
  return commands;
}

}  // namespace dist::bench::gpu
