// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/process_identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace dist {
namespace {

struct ProcessState {
  char letter = '?';
  std::uint64_t start_ticks = 0;
};

// Fields 3 and 22 of /proc/PID/stat. The command in field 2 may hold spaces and parentheses, so
// counting starts behind the last ')'.
std::optional<ProcessState> read_state(std::int32_t pid) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  char text[1024];
  const auto length = ::read(file, text, sizeof text - 1);
  ::close(file);
  if (length <= 0) return std::nullopt;
  text[length] = '\0';
  const std::string_view line(text, static_cast<std::size_t>(length));
  std::size_t at = line.rfind(')');
  if (at == line.npos || at + 2 >= line.size()) return std::nullopt;
  ProcessState state{.letter = line[at + 2]};
  constexpr int kFieldsFromCommandToStart = 20;
  for (int field = 0; field < kFieldsFromCommandToStart; ++field) {
    at = line.find(' ', at + 1);
    if (at == line.npos) return std::nullopt;
  }
  state.start_ticks = std::strtoull(text + at, nullptr, 10);
  return state;
}

std::uint32_t own_pid_namespace() {
  struct stat information {};
  return ::stat("/proc/self/ns/pid", &information) == 0
             ? static_cast<std::uint32_t>(information.st_ino)
             : 0;
}

}  // namespace

ProcessIdentity this_process() {
  ProcessIdentity self{.pid = ::getpid(), .pid_namespace = own_pid_namespace()};
  if (const auto state = read_state(self.pid)) self.start_ticks = state->start_ticks;
  return self;
}

bool is_alive(const ProcessIdentity& process) {
  if (process.pid_namespace != own_pid_namespace()) return true;
  const auto state = read_state(process.pid);
  return state && state->letter != 'Z' && state->letter != 'X' &&
         state->start_ticks == process.start_ticks;
}

}  // namespace dist
