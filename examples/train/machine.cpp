// SPDX-License-Identifier: Apache-2.0
#include "examples/train/machine.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <thread>

namespace train {
namespace {

// What follows "key...:" in a file of such lines; empty where there is none.
std::string field_of(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

}  // namespace

Machine this_machine() {
  Machine machine;
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) == 0) machine.host = host.data();
  machine.cpu = field_of("/proc/cpuinfo", "model name");
  machine.cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return machine;
}

std::uint64_t peak_memory_bytes() {
  const std::string text = field_of("/proc/self/status", "VmHWM");
  return std::strtoull(text.c_str(), nullptr, 10) * 1024;  // the kernel says "123 kB"
}

dist::Status check_writable(const std::string& path, const std::string& what) {
  const bool existed = ::access(path.c_str(), F_OK) == 0;
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) {
    return dist::Status::resource(
        fmt::format("{}: cannot write {}: {}", what, path, std::strerror(errno)));
  }
  ::close(file);
  if (!existed) ::unlink(path.c_str());
  return {};
}

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace train
