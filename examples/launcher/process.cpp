// SPDX-License-Identifier: Apache-2.0
#include "examples/launcher/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace launcher {
namespace {

using dist::Status;

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> out;
  for (const std::string& word : words) out.push_back(const_cast<char*>(word.c_str()));  // NOLINT
  out.push_back(nullptr);
  return out;
}

// Everything the launcher changed about signals is undone: a program inherits masks and ignored
// signals.
void restore_signals() {
  std::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

struct Ends {
  int out;
  int err;
  int failure;
};

// In the fork: only calls that are safe there, memory was prepared before.
[[noreturn]] void become(char* const* arguments, char* const* environment, Ends ends,
                         pid_t launcher) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launcher) _exit(1);  // it died before we asked to be told
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  dup2(nothing, STDIN_FILENO);
  dup2(ends.out, STDOUT_FILENO);
  dup2(ends.err, STDERR_FILENO);
  restore_signals();
  execvpe(arguments[0], arguments, environment);
  const int error = errno;
  (void)!::write(ends.failure, &error, sizeof error);
  _exit(127);
}

bool belongs_to(const std::filesystem::path& process, const std::string& entry) {
  std::ifstream file(process / "environ", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto at = ('\0' + text).find('\0' + entry + '\0');
  return at != std::string::npos;
}

// The guard's whole life: wait for a word or for the end of the launcher.
[[noreturn]] void guard_job(int tie, const std::string& job, const std::string& directory) {
  setsid();  // a Ctrl-C at the terminal is not for the guard
  prctl(PR_SET_NAME, "distrun-guard");
  for (const int ending : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) std::signal(ending, SIG_IGN);
  const int nothing = ::open("/dev/null", O_RDWR);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, stream);
  char word = 0;
  ssize_t got = 0;
  do got = ::read(tie, &word, 1);
  while (got < 0 && errno == EINTR);
  if (got == 0) {
    while (kill_job(job) > 0) usleep(20'000);
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  }
  _exit(0);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    number_ = other.release();
  }
  return *this;
}

void Descriptor::reset() {
  if (number_ >= 0) ::close(number_);
  number_ = -1;
}

int Descriptor::release() {
  const int number = number_;
  number_ = -1;
  return number;
}

dist::Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return Status::resource(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  return Pipe{Descriptor(ends[0]), Descriptor(ends[1])};
}

dist::Result<Spawned> spawn(const std::vector<std::string>& command,
                            const std::vector<std::string>& environment) {
  auto out = make_pipe();
  DIST_TRY(out);
  auto err = make_pipe();
  DIST_TRY(err);
  auto failure = make_pipe();
  DIST_TRY(failure);
  const auto arguments = pointers(command);
  const auto variables = pointers(environment);
  const pid_t launcher = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return Status::resource(fmt::format("cannot start a process: {}", std::strerror(errno)));
  }
  if (pid == 0) {
    become(arguments.data(), variables.data(),
           {out->write.get(), err->write.get(), failure->write.get()}, launcher);
  }
  setpgid(pid, pid);  // here too: whoever comes first
  failure->write.reset();
  Spawned spawned;
  ssize_t got = 0;
  do got = ::read(failure->read.get(), &spawned.exec_error, sizeof spawned.exec_error);
  while (got < 0 && errno == EINTR);
  if (got > 0) {
    waitpid(pid, nullptr, 0);
    return spawned;
  }
  for (Pipe* stream : {&*out, &*err}) fcntl(stream->read.get(), F_SETFL, O_NONBLOCK);
  spawned.child = {pid, std::move(out->read), std::move(err->read)};
  return spawned;
}

int kill_job(const std::string& job) {
  int found = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (!belongs_to(entry.path(), "DIST_JOB=" + job)) continue;
    ++found;
    ::kill(std::stoi(name), SIGKILL);
  }
  return found;
}

dist::Result<Guard> Guard::start(const std::string& job, const std::string& directory) {
  auto tie = make_pipe();
  DIST_TRY(tie);
  Guard guard;
  guard.pid_ = fork();
  if (guard.pid_ < 0) {
    return Status::resource(fmt::format("cannot start the guard: {}", std::strerror(errno)));
  }
  if (guard.pid_ == 0) {
    tie->write.reset();
    guard_job(tie->read.get(), job, directory);
  }
  guard.tie_ = std::move(tie->write);
  return guard;
}

void Guard::dismiss() {
  (void)!::write(tie_.get(), "d", 1);
  tie_.reset();
  waitpid(pid_, nullptr, 0);
}

}  // namespace launcher
