// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

#include "bench/peers/peer.h"
#include "bench/process.h"

namespace dist::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kTickMs = 100;
constexpr std::size_t kTailLines = 8;
constexpr std::chrono::milliseconds kQuitTime{5000};
constexpr std::chrono::milliseconds kTermTime{3000};

std::string with_control(std::string text, const std::string& directory) {
  constexpr std::string_view kToken = "{control}";
  for (auto at = text.find(kToken); at != text.npos; at = text.find(kToken)) {
    text.replace(at, kToken.size(), directory);
  }
  return text;
}

[[noreturn]] void become(const Command& command, const std::string& directory, int log,
                         const sigset_t& signals, pid_t group, pid_t parent) {
  setpgid(0, group);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  if (const int null = open("/dev/null", O_RDONLY); null >= 0) dup2(null, STDIN_FILENO);
  for (const auto& [name, value] : command.environment) {
    setenv(name.c_str(), with_control(value, directory).c_str(), 1);
  }
  std::vector<std::string> words;
  for (const std::string& word : command.words) words.push_back(with_control(word, directory));
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execvp(pointers[0], pointers.data());
  std::fprintf(stderr, "cannot start %s: %s\n", pointers[0], std::strerror(errno));
  _exit(127);
}

Status make_flags(const std::string& path, int ranks) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool made =
      file >= 0 && ftruncate(file, static_cast<off_t>(SharedFlags::bytes(ranks))) == 0;
  if (file >= 0) close(file);
  if (made) return {};
  return Status::resource(fmt::format("cannot make {}: {}", path, std::strerror(errno)));
}

// libdist wants one where it listens beyond loopback; who can read our directory may know it.
Status make_secret(const std::string& path) {
  std::array<unsigned char, 32> bytes;
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool made = file >= 0 && getrandom(bytes.data(), bytes.size(), 0) == ssize_t{32} &&
                    write(file, bytes.data(), bytes.size()) == ssize_t{32};
  if (file >= 0) close(file);
  return made ? Status() : Status::resource("cannot make " + path);
}

}  // namespace

Interrupts::Interrupts() {
  sigemptyset(&set_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
  sigprocmask(SIG_BLOCK, &set_, &before_);
}

Interrupts::~Interrupts() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

int Interrupts::pending() {
  const timespec now = {0, 0};
  if (const int signal = sigtimedwait(&set_, nullptr, &now); signal > 0) got_ = signal;
  return got_;
}

Result<std::unique_ptr<Job>> Job::start(JobSpec spec, const std::string& directory,
                                        std::chrono::seconds timeout, Interrupts& interrupts) {
  std::unique_ptr<Job> job(new Job(std::move(spec), directory, timeout, interrupts));
  DIST_TRY(job->make_directory());
  DIST_TRY(job->start_processes());
  auto ready = job->collect();
  if (!ready.ok()) return ready.status();
  for (std::size_t r = 0; r < ready->size(); ++r) {
    const std::string expected = fmt::format("ready {}", r);
    if ((*ready)[r].rfind(expected, 0) != 0) {
      return job->failed(Status::protocol(
          fmt::format("rank {} said '{}' instead of '{}'", r, (*ready)[r], expected)));
    }
    if (r == 0)
      job->version_ = (*ready)[r].substr(std::min((*ready)[r].size(), expected.size() + 1));
  }
  return job;
}

Status Job::make_directory() {
  if (mkdir(directory_.c_str(), 0700) != 0) {
    return Status::resource(fmt::format("cannot make {}: {}", directory_, std::strerror(errno)));
  }
  for (const char* name : {"flags", "limit"}) {
    DIST_TRY(make_flags(fmt::format("{}/{}", directory_, name), spec_.ranks));
  }
  mkdir((directory_ + "/rendezvous").c_str(), 0700);
  DIST_TRY(make_secret(directory_ + "/secret"));
  for (int r = 0; r < spec_.ranks; ++r) {
    Line line;
    // Opened for both ways: opening then waits for nobody. That a rank died is seen by its process.
    for (auto [end, name] : {std::pair{&line.to, "to"}, std::pair{&line.from, "from"}}) {
      const std::string path = fmt::format("{}/{}_{}", directory_, name, r);
      if (mkfifo(path.c_str(), 0600) == 0) {
        *end = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
      }
      if (*end < 0) {
        return Status::resource(fmt::format("cannot make {}: {}", path, std::strerror(errno)));
      }
    }
    lines_.push_back(line);
  }
  return {};
}

Status Job::start_processes() {
  const std::string log_path = directory_ + "/log";
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) return Status::resource("cannot make " + log_path);
  const pid_t parent = getpid();
  Status status;
  for (const Command& command : spec_.commands) {
    const pid_t group = children_.empty() ? 0 : children_.front();
    const pid_t child = fork();
    if (child == 0) become(command, directory_, log, interrupts_.before(), group, parent);
    if (child < 0) {
      status = Status::resource(fmt::format("cannot fork: {}", std::strerror(errno)));
      break;
    }
    setpgid(child, group == 0 ? child : group);  // both sides do it: neither knows who comes first
    children_.push_back(child);
  }
  close(log);
  return status;
}

Status Job::failed(const Status& status) const {
  const std::string tail = tail_of(directory_ + "/log", kTailLines, "  | ");
  return Status(status.code(),
                fmt::format("{}: {}{}{}", spec_.name(), status.message(), tail.empty() ? "" : "\n",
                            tail.substr(0, tail.empty() ? 0 : tail.size() - 1)));
}

// Takes ended children off the list; an error when one ended.
Status Job::dead_child() {
  Status status;
  std::erase_if(children_, [&](pid_t child) {
    int code = 0;
    if (waitpid(child, &code, WNOHANG) == 0) return false;
    status = Status::peer_lost(
        WIFSIGNALED(code) ? fmt::format("a process was ended by signal {}", WTERMSIG(code))
                          : fmt::format("a process ended with exit code {}", WEXITSTATUS(code)));
    return true;
  });
  return status;
}

bool Job::read_line(Line& line, std::string* out) {
  char piece[1 << 16];
  for (ssize_t got; (got = read(line.from, piece, sizeof piece)) > 0;) {
    line.text.append(piece, static_cast<std::size_t>(got));
  }
  const auto end = line.text.find('\n');
  if (end == std::string::npos) return false;
  *out = line.text.substr(0, end);
  line.text.erase(0, end + 1);
  return true;
}

Result<std::vector<std::string>> Job::collect() {
  std::vector<std::string> replies(lines_.size());
  std::vector<bool> there(lines_.size(), false);
  const auto deadline = Clock::now() + timeout_;
  for (std::size_t missing = lines_.size(); missing > 0;) {
    std::vector<pollfd> polled;
    for (std::size_t r = 0; r < lines_.size(); ++r) {
      polled.push_back({there[r] ? -1 : lines_[r].from, POLLIN, 0});
    }
    poll(polled.data(), polled.size(), kTickMs);
    const Status dead = dead_child();  // before reading: its last words count first
    for (std::size_t r = 0; r < lines_.size(); ++r) {
      if (there[r] || !read_line(lines_[r], &replies[r])) continue;
      if (replies[r].rfind("error ", 0) == 0) {
        return failed(Status::peer_lost(fmt::format("rank {}: {}", r, replies[r].substr(6))));
      }
      there[r] = true;
      --missing;
    }
    if (missing == 0) break;
    if (!dead.ok()) return failed(dead);
    if (const int signal = interrupts_.pending(); signal != 0) {
      return Status::cancelled(fmt::format("ended by signal {}", signal));
    }
    if (Clock::now() > deadline) {
      const auto rank = std::find(there.begin(), there.end(), false) - there.begin();
      return failed(Status::timed_out(
          fmt::format("rank {} did not answer within {} s", rank, timeout_.count())));
    }
  }
  return replies;
}

Result<std::vector<std::string>> Job::ask(const std::string& request) {
  const std::string text = request + "\n";
  for (const Line& line : lines_) {
    if (write(line.to, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return failed(Status::peer_lost("a rank does not take its request"));
    }
  }
  auto replies = collect();
  broken_ = !replies.ok();
  if (broken_) return replies.status().because(request);
  return replies;
}

Status Job::allocate(std::uint64_t bytes) {
  return ask(fmt::format("allocate {}", bytes)).status();
}

Status Job::release() { return ask("release").status(); }

Result<std::vector<double>> Job::run(int warmups, int calls, bool touched) {
  auto replies = ask(fmt::format("run {} {} {}", warmups, calls, touched ? 1 : 0));
  if (!replies.ok()) return replies.status();
  auto times = slowest_times_us(*replies, static_cast<std::size_t>(calls));
  if (!times.ok()) return failed(times.status());
  return times;
}

Result<std::string> Job::check() {
  auto replies = ask("check");
  if (!replies.ok()) return replies.status();
  for (std::size_t r = 0; r < replies->size(); ++r) {
    if ((*replies)[r] != "correct") return fmt::format("rank {}: {}", r, (*replies)[r]);
  }
  return std::string();
}

bool Job::all_gone() {
  while (!dead_child().ok()) continue;
  return children_.empty();
}

bool Job::wait_for_end(std::chrono::milliseconds time) {
  const auto deadline = Clock::now() + time;
  while (!all_gone() && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return children_.empty();
}

void Job::signal_all(int signal) {
  for (const pid_t child : children_) kill(child, signal);
}

void Job::end() {
  for (const Line& line : lines_) {
    [[maybe_unused]] const auto wrote = write(line.to, "quit\n", 5);
  }
  // A rank in the middle of a call never reads that. A rank killed so takes its children along.
  if (broken_ || !wait_for_end(kQuitTime)) signal_all(SIGTERM);
  if (!wait_for_end(kTermTime)) signal_all(SIGKILL);
  wait_for_end(kTermTime);
  for (Line& line : lines_) {
    close(line.to);
    close(line.from);
  }
  lines_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

Result<std::vector<double>> slowest_times_us(const std::vector<std::string>& replies,
                                             std::size_t calls) {
  std::vector<double> slowest(calls, 0);
  for (std::size_t r = 0; r < replies.size(); ++r) {
    std::istringstream words(replies[r]);
    std::string verb;
    words >> verb;
    std::size_t seen = 0;
    for (double ns = 0; seen < calls && words >> ns; ++seen) {
      slowest[seen] = std::max(slowest[seen], ns / 1000);
    }
    std::string more;
    if (verb != "times" || seen != calls || words >> more) {
      return Status::protocol(
          fmt::format("rank {} did not send the {} times that were asked for", r, calls));
    }
  }
  return slowest;
}

}  // namespace dist::bench
