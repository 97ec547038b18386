// SPDX-License-Identifier: Apache-2.0
#include "bench/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>

namespace dist::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kGrace{10};

// Signals wait in line while a child runs, so that they are handled where the loop wants them.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigemptyset(&set_);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
    sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~BlockedSignals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  const sigset_t& before() const { return before_; }

  /// The next signal, or 0 after a second.
  int next() const {
    const timespec second = {1, 0};
    const int signal = sigtimedwait(&set_, nullptr, &second);
    return signal > 0 ? signal : 0;
  }

 private:
  sigset_t set_;
  sigset_t before_;
};

[[noreturn]] void become(const std::vector<std::string>& argv, int log, const sigset_t& signals,
                         pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  std::vector<char*> pointers;
  pointers.reserve(argv.size() + 1);
  for (const std::string& argument : argv) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
  std::fprintf(stderr, "cannot start %s: %s\n", pointers[0], std::strerror(errno));
  _exit(127);
}

int exit_code_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// Waits for the child and ends it when its time is up or this process is told to go.
void supervise(pid_t child, const BlockedSignals& signals, std::chrono::seconds timeout,
               const std::function<void(double)>& tick, ProcessResult& result) {
  const auto start = Clock::now();
  const auto seconds_since = [&] {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  auto deadline = start + timeout;
  bool ending = false;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    const int signal = signals.next();
    if (signal != 0 && signal != SIGCHLD) result.interrupted_by = signal;
    if (Clock::now() >= deadline && !ending) result.timed_out = true;
    if (ending && Clock::now() >= deadline) kill(-child, SIGKILL);
    if (!ending && (result.timed_out || result.interrupted_by != 0)) {
      kill(-child, SIGTERM);
      ending = true;
      deadline = Clock::now() + kGrace;
    }
    if (tick) tick(seconds_since());
  }
  result.wall_seconds = seconds_since();
  result.exit_code = exit_code_of(status);
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& argv, const std::string& log_path,
                          std::chrono::seconds timeout, const std::function<void(double)>& tick) {
  ProcessResult result;
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (log < 0) {
    result.exit_code = 127;
    return result;
  }
  const BlockedSignals signals;
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) become(argv, log, signals.before(), parent);
  close(log);
  if (child < 0) {
    result.exit_code = 127;
    return result;
  }
  setpgid(child, child);  // both sides do it: neither knows who comes first
  supervise(child, signals, timeout, tick, result);
  return result;
}

std::string tail_of(const std::string& path, std::size_t lines, const std::string& indent) {
  std::ifstream file(path);
  std::deque<std::string> last;
  for (std::string line; std::getline(file, line);) {
    last.push_back(line);
    if (last.size() > lines) last.pop_front();
  }
  std::string text;
  for (const std::string& line : last) text += indent + line + "\n";
  return text;
}

}  // namespace dist::bench
