// SPDX-License-Identifier: Apache-2.0
#include "tests/examples/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <thread>

extern char** environ;  // NOLINT: POSIX declares it nowhere

namespace dist::test {
namespace {

double now_s() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since).count();
}

std::vector<std::string> clean_environment(const std::vector<std::string>& added) {
  std::vector<std::string> out;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view line(*at);
    if (line.starts_with("DIST_") || line.starts_with("OMPI_") || line.starts_with("PMI")) continue;
    out.emplace_back(line);
  }
  out.insert(out.end(), added.begin(), added.end());
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (std::string& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

// False at the end of the stream.
bool read_some(int* from, std::string* into) {
  char buffer[65536];
  const auto got = ::read(*from, buffer, sizeof buffer);
  if (got > 0) into->append(buffer, static_cast<std::size_t>(got));
  if (got > 0) return true;
  ::close(*from);
  *from = -1;
  return false;
}

int count_of(const std::string& text, const std::string& word) {
  int count = 0;
  for (auto at = text.find(word); at != text.npos; at = text.find(word, at + word.size())) ++count;
  return count;
}

}  // namespace

Program::Program(const std::vector<std::string>& command,
                 const std::vector<std::string>& environment) {
  auto words = command;
  auto variables = clean_environment(environment);
  const auto arguments = pointers(words);
  const auto environment_pointers = pointers(variables);
  int out[2];
  int err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
    throw std::runtime_error("no pipe");
  }
  begin_s_ = now_s();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    execvpe(arguments[0], arguments.data(), environment_pointers.data());
    _exit(126);
  }
  ::close(out[1]);
  ::close(err[1]);
  out_ = out[0];
  err_ = err[0];
  if (pid_ < 0) throw std::runtime_error("no process");
}

Program::~Program() {
  if (pid_ > 0) {
    ::kill(pid_, SIGTERM);  // a launcher ends its ranks
    for (int i = 0; i < 500 && waitpid(pid_, nullptr, WNOHANG) == 0; ++i) usleep(10'000);
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (out_ >= 0) ::close(out_);
  if (err_ >= 0) ::close(err_);
}

void Program::signal(int signal) const { ::kill(pid_, signal); }

// Reads what there is; false once both streams have ended.
bool Program::pump(int timeout_ms) {
  pollfd polled[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
  ::poll(polled, 2, timeout_ms);  // -1 is passed over
  if (out_ >= 0 && polled[0].revents != 0) read_some(&out_, &finished_.out);
  if (err_ >= 0 && polled[1].revents != 0) read_some(&err_, &finished_.err);
  return out_ >= 0 || err_ >= 0;
}

void Program::wait_for(const std::string& text, int times, double seconds) {
  const double deadline_s = now_s() + seconds;
  const auto found = [&] { return count_of(finished_.out, text) + count_of(finished_.err, text); };
  while (found() < times) {
    const bool more = pump(50);
    if (found() >= times) return;
    if (!more || now_s() > deadline_s) {
      throw std::runtime_error("'" + text + "' was not printed in time; stdout:\n" + finished_.out +
                               "\nstderr:\n" + finished_.err);
    }
  }
}

Finished Program::wait(double seconds) {
  const double deadline_s = now_s() + seconds;
  while (pump(50)) {
    if (now_s() > deadline_s) {
      throw std::runtime_error("the program did not end; stdout:\n" + finished_.out +
                               "\nstderr:\n" + finished_.err);
    }
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  finished_.seconds = now_s() - begin_s_;
  finished_.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return finished_;
}

Finished run_program(const std::vector<std::string>& command,
                     const std::vector<std::string>& environment, double seconds) {
  Program program(command, environment);
  return program.wait(seconds);
}

std::string built(const std::string& name) {
  return fmt::format("{}/{}", DIST_TEST_PROGRAMS, name);
}

std::vector<std::string> with_distrun(int ranks, const std::string& program,
                                      const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {built("distrun"), "-n", std::to_string(ranks), "--", program};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

std::vector<std::string> with_mpirun(int ranks, const std::string& program,
                                     const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {DIST_TEST_MPIRUN,
                                      "--allow-run-as-root",
                                      "--oversubscribe",
                                      "--bind-to",
                                      "none",
                                      "-n",
                                      std::to_string(ranks),
                                      program};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

bool alive(pid_t pid) {
  const std::string stat = read_text(fmt::format("/proc/{}/stat", pid));
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= stat.size()) return false;
  const char state = stat[name_end + 2];
  return state != 'Z' && state != 'X';
}

std::vector<pid_t> children_of(pid_t parent, const std::string& name) {
  std::istringstream all(read_text(fmt::format("/proc/{0}/task/{0}/children", parent)));
  std::vector<pid_t> children;
  for (pid_t child = 0; all >> child;) {
    if (read_text(fmt::format("/proc/{}/comm", child)) == name + "\n") children.push_back(child);
  }
  return children;
}

bool all_gone(const std::vector<pid_t>& pids, double seconds) {
  const double deadline_s = now_s() + seconds;
  for (;;) {
    bool any = false;
    for (const pid_t pid : pids) any = any || alive(pid);
    if (!any) return true;
    if (now_s() > deadline_s) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::vector<pid_t> numbers_after(const std::string& text, const std::string& key) {
  std::vector<pid_t> numbers;
  for (auto at = text.find(key); at != text.npos; at = text.find(key, at + 1)) {
    numbers.push_back(std::atoi(text.c_str() + at + key.size()));
  }
  return numbers;
}

ScratchDirectory::ScratchDirectory() {
  std::string name = std::filesystem::temp_directory_path() / "dist-program-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace dist::test
