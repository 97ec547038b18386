// SPDX-License-Identifier: Apache-2.0
#include "bench/provenance.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/utsname.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>

#include "libdist/dist.h"

namespace dist::bench {
namespace {

// What follows `key` and the separator on the first line of `path` that begins with it.
std::string value_in(const char* path, const std::string& key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto at = line.find(separator);
    if (at == std::string::npos) continue;
    const auto begin = line.find_first_not_of(" \t\"", at + 1);
    const auto end = line.find_last_not_of(" \t\"");
    if (begin != std::string::npos) return line.substr(begin, end - begin + 1);
  }
  return "unknown";
}

double memory_gib() {
  const std::string text = value_in("/proc/meminfo", "MemTotal", ':');
  return text == "unknown" ? 0 : std::round(std::stod(text) / 1024 / 1024 * 10) / 10;
}

nlohmann::json git_commit() {
  const std::string command =
      fmt::format("git -C '{}' describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null",
                  DIST_SOURCE_DIR);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  char line[80] = {};
  const bool told = pipe && std::fgets(line, sizeof line, pipe.get()) != nullptr;
  // Where programs were carried to without their repository (bench/gpu/carry.sh).
  const char* carried = std::getenv("DIST_GIT_COMMIT");
  std::string commit = told ? line : carried != nullptr ? carried : "";
  while (!commit.empty() && commit.back() == '\n') commit.pop_back();
  return commit.empty() ? nlohmann::json() : nlohmann::json(commit);
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::string command_line(int argc, const char* const* argv) {
  std::string line;
  for (int i = 0; i < argc; ++i) line += fmt::format("{}{}", i > 0 ? " " : "", argv[i]);
  return line;
}

nlohmann::json provenance(const std::string& command) {
  utsname system = {};
  uname(&system);
  return {{"machine", system.nodename},
          {"cpu", value_in("/proc/cpuinfo", "model name", ':')},
          {"cores", usable_cores()},
          {"memory_gib", memory_gib()},
          {"os", value_in("/etc/os-release", "PRETTY_NAME", '=')},
          {"kernel", fmt::format("{} {}", system.sysname, system.release)},
          {"compiler", DIST_COMPILER},
          {"library_version", std::string(version())},
          {"git_commit", git_commit()},
          {"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
          {"command", command}};
}

}  // namespace dist::bench
