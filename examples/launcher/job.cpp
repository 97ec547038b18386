// SPDX-License-Identifier: Apache-2.0
#include "examples/launcher/job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>

#include "examples/launcher/output.h"
#include "examples/launcher/process.h"

extern char** environ;  // NOLINT: POSIX declares it nowhere

namespace launcher {
namespace {

using Clock = std::chrono::steady_clock;
using dist::Status;

constexpr auto kTermToKill = std::chrono::seconds(1);
constexpr auto kLateDeath = std::chrono::milliseconds(200);
constexpr int kTimedOut = 124;
constexpr int kMostReads = 16;  // of one stream before the others and the signals have their turn;
                                // more than a pipe holds
constexpr std::string_view kOurs[] = {"DIST_RANK", "DIST_RANKS", "DIST_JOB", "DIST_RENDEZVOUS",
                                      "DIST_INCARNATION"};
constexpr std::string_view kElastic[] = {"DIST_ELASTIC=1", "DIST_TRANSPORT=tcp",
                                         "DIST_PLACEMENT=dedicated"};

Clock::duration ticks(std::chrono::duration<double> seconds) {
  return std::chrono::duration_cast<Clock::duration>(seconds);
}

void say(const std::string& text) { write_all(STDERR_FILENO, "distrun: " + text + "\n"); }

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : "unknown";
}

struct Stream {
  Descriptor from;
  int to;
  LinePrefixer prefixer;
};

struct Rank {
  pid_t pid = -1;
  bool running = false;
  int wait_status = 0;
  int incarnation = 0;
  std::vector<Stream> streams;
};

class Job {
 public:
  explicit Job(const JobOptions& options) : options_(options) {}
  int run();

 private:
  // How far the ending of the job has gone.
  enum class Phase { running, leaving, terminating, killing };

  Status prepare();
  bool start_ranks();
  bool start(int rank);
  bool may_fail(int rank) const;
  bool start_again(int rank, const std::string& why);
  std::vector<std::string> environment(int rank) const;
  void loop();
  void poll_once();
  int poll_timeout_ms() const;
  void handle_signals();
  void collect();
  std::vector<int> reap();
  void judge(const std::vector<int>& ended);
  void begin_ending(const std::string& why, int code);
  void check_clock();
  void drain(Stream& stream);
  void drain_rank(Rank& rank);
  void signal_ranks(int signal);
  std::vector<int> running_ranks() const;
  void clean_up();

  const JobOptions& options_;
  std::string job_;
  std::string directory_;
  std::optional<Guard> guard_;
  Descriptor signals_;
  std::vector<Rank> ranks_;
  Phase phase_ = Phase::running;
  std::optional<Clock::time_point> deadline_;  // of the phase; of the job while running
  std::optional<int> exit_code_;
  int restarts_ = 0;
};

Status Job::prepare() {
  std::uint64_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) {
    return Status::resource("no random number for the job");
  }
  job_ = fmt::format("{:016x}", number);
  std::error_code error;
  auto name = (std::filesystem::temp_directory_path(error) / "distrun-XXXXXX").string();
  if (error || mkdtemp(name.data()) == nullptr) {  // mkdtemp makes it private: 0700
    return Status::resource(
        fmt::format("cannot make the job's directory {}: {}", name, std::strerror(errno)));
  }
  directory_ = name;
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // what a rank leaves behind becomes our child
  std::signal(SIGPIPE, SIG_IGN);
  auto guard = Guard::start(job_, directory_);
  DIST_TRY(guard);
  guard_ = *std::move(guard);
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGUSR1}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = Descriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.open()) return Status::resource("signalfd failed");
  if (options_.timeout.count() > 0) deadline_ = Clock::now() + ticks(options_.timeout);
  return {};
}

// The caller's, with our words about the rank in place of any that are there.
std::vector<std::string> Job::environment(int rank) const {
  std::vector<std::string> out;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view line(*at);
    const auto name = line.substr(0, line.find('='));
    if (std::find(std::begin(kOurs), std::end(kOurs), name) == std::end(kOurs)) {
      out.emplace_back(line);
    }
  }
  out.push_back(fmt::format("DIST_RANK={}", rank));
  out.push_back(fmt::format("DIST_RANKS={}", options_.ranks));
  out.push_back("DIST_JOB=" + job_);
  out.push_back("DIST_RENDEZVOUS=dir:" + directory_);
  if (options_.servers == 0) return out;
  out.insert(out.end(), std::begin(kElastic), std::end(kElastic));
  out.push_back(fmt::format("DIST_SERVERS={}", options_.servers));
  out.push_back(
      fmt::format("DIST_INCARNATION={}", ranks_[static_cast<std::size_t>(rank)].incarnation));
  return out;
}

// False when a rank could not be started; the reason was told and the exit code set.
bool Job::start_ranks() {
  ranks_.resize(static_cast<std::size_t>(options_.ranks));
  for (int r = 0; r < options_.ranks; ++r) {
    if (!start(r)) return false;
  }
  return true;
}

bool Job::start(int number) {
  auto spawned = spawn(options_.command, environment(number));
  if (!spawned.ok()) {
    begin_ending(fmt::format("rank {}: {}", number, spawned.status().message()), 1);
    return false;
  }
  if (const int error = spawned->exec_error; error != 0) {
    begin_ending(fmt::format("cannot run {}: {}", options_.command[0], std::strerror(error)),
                 error == ENOENT ? 127 : 126);
    return false;
  }
  const std::string prefix = options_.prefix ? fmt::format("[{}] ", number) : "";
  Rank& rank = ranks_[static_cast<std::size_t>(number)];
  rank.pid = spawned->child.pid;
  rank.running = true;
  for (Stream& stream : rank.streams) write_all(stream.to, stream.prefixer.finish());
  rank.streams.clear();
  rank.streams.push_back({std::move(spawned->child.out), STDOUT_FILENO,
                          LinePrefixer(prefix, isatty(STDOUT_FILENO) == 1)});
  rank.streams.push_back({std::move(spawned->child.err), STDERR_FILENO,
                          LinePrefixer(prefix, isatty(STDERR_FILENO) == 1)});
  return true;
}

bool Job::may_fail(int rank) const {
  return options_.servers > 0 && rank < options_.ranks - options_.servers &&
         phase_ == Phase::running;
}

// False where it is not to be; then the others go on without it.
bool Job::start_again(int rank, const std::string& why) {
  const bool ending = std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& other) {
    return !other.running && WIFEXITED(other.wait_status) && WEXITSTATUS(other.wait_status) == 0;
  });
  if (ending || restarts_ == options_.restarts) return false;
  ++restarts_;
  const int incarnation = ++ranks_[static_cast<std::size_t>(rank)].incarnation;
  say(fmt::format("{}; starting it again, incarnation {}", why, incarnation));
  start(rank);
  return true;
}

std::vector<int> Job::running_ranks() const {
  std::vector<int> out;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    if (ranks_[r].running) out.push_back(static_cast<int>(r));
  }
  return out;
}

void Job::signal_ranks(int signal) {
  for (const Rank& rank : ranks_) {
    if (rank.running) ::kill(-rank.pid, signal);
  }
}

// Only the first reason is told and counts: what follows from it is noise.
void Job::begin_ending(const std::string& why, int code) {
  if (!exit_code_) {
    exit_code_ = code;
    say(why);
  }
  if (phase_ != Phase::running) return;
  phase_ = Phase::leaving;
  deadline_ = Clock::now() + ticks(options_.grace);
}

void Job::check_clock() {
  if (!deadline_ || Clock::now() < *deadline_ || running_ranks().empty()) return;
  if (phase_ == Phase::running) {
    begin_ending(fmt::format("the job ran longer than {} s; ending it", options_.timeout.count()),
                 kTimedOut);
    deadline_ = Clock::now();  // time was up: no grace to leave by themselves
  } else if (phase_ == Phase::leaving) {
    phase_ = Phase::terminating;
    signal_ranks(SIGTERM);
    deadline_ = Clock::now() + kTermToKill;
  } else {
    if (phase_ == Phase::terminating) {
      say(fmt::format("rank {} did not leave; killing", fmt::join(running_ranks(), ", ")));
    }
    phase_ = Phase::killing;
    signal_ranks(SIGKILL);
    deadline_ = Clock::now() + kTermToKill;
  }
}

int Job::poll_timeout_ms() const {
  if (!deadline_) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
}

// Passes on what the pipe holds.
void Job::drain(Stream& stream) {
  char buffer[65536];
  for (int reads = 0; reads < kMostReads && stream.from.open(); ++reads) {
    const auto got = ::read(stream.from.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    const std::string text = got > 0 ? stream.prefixer.feed({buffer, static_cast<size_t>(got)})
                                     : stream.prefixer.finish();
    if (!write_all(stream.to, text)) begin_ending("nobody reads the output; ending", 128 + SIGPIPE);
    if (got <= 0) stream.from.reset();
  }
}

void Job::drain_rank(Rank& rank) {
  for (Stream& stream : rank.streams) drain(stream);
}

void Job::handle_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) continue;  // collect() asks itself
    signal_ranks(signal);
    if (signal != SIGUSR1) {
      begin_ending(fmt::format("{}: passed on to the ranks; ending", signal_name(signal)),
                   128 + signal);
    }
  }
}

void Job::collect() {
  std::vector<int> ended = reap();
  const auto any = [&](const auto& condition) {
    return std::any_of(ended.begin(), ended.end(), [&](int r) {
      return condition(ranks_[static_cast<std::size_t>(r)].wait_status);
    });
  };
  const auto failed = [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) != 0; };
  const auto killed = [](int status) { return WIFSIGNALED(status); };
  // Ranks see a neighbour's death, and end, before the kernel has taken it down and told us.
  const bool others_tell = phase_ == Phase::running && options_.servers == 0 && any(failed);
  const auto until = Clock::now() + kLateDeath;
  while (others_tell && !any(killed) && !running_ranks().empty() && Clock::now() < until) {
    std::this_thread::sleep_for(kLateDeath / 20);
    const auto more = reap();
    ended.insert(ended.end(), more.begin(), more.end());
  }
  judge(ended);
}

std::vector<int> Job::reap() {
  std::vector<int> ended;
  int wait_status = 0;
  for (pid_t pid; (pid = waitpid(-1, &wait_status, WNOHANG)) > 0;) {
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      if (ranks_[r].pid != pid) continue;
      ranks_[r].running = false;
      ranks_[r].wait_status = wait_status;
      ended.push_back(static_cast<int>(r));
    }
  }
  return ended;
}

// Of ranks that ended at the same time, one that was killed is the likelier cause: first.
void Job::judge(const std::vector<int>& ended) {
  for (const bool by_signal : {true, false}) {
    for (const int r : ended) {
      Rank& rank = ranks_[static_cast<std::size_t>(r)];
      if (WIFSIGNALED(rank.wait_status) != by_signal) continue;
      drain_rank(rank);  // its last words come before ours
      const int signal = by_signal ? WTERMSIG(rank.wait_status) : 0;
      const int code = by_signal ? 128 + signal : WEXITSTATUS(rank.wait_status);
      if (code == 0) continue;
      const auto what = by_signal ? fmt::format("rank {} was killed by signal {} ({})", r, signal,
                                                signal_name(signal))
                                  : fmt::format("rank {} exited with code {}", r, code);
      if (may_fail(r)) {
        if (!start_again(r, what)) say(what + "; going on without it");
        continue;
      }
      begin_ending(what + (running_ranks().empty() ? "" : "; ending the others"), code);
    }
  }
}

void Job::poll_once() {
  std::vector<pollfd> polled = {{signals_.get(), POLLIN, 0}};
  for (const Rank& rank : ranks_) {
    for (const Stream& stream : rank.streams) {
      if (stream.from.open()) polled.push_back({stream.from.get(), POLLIN, 0});
    }
  }
  ::poll(polled.data(), polled.size(), poll_timeout_ms());
  for (Rank& rank : ranks_) drain_rank(rank);
}

void Job::loop() {
  while (!running_ranks().empty()) {
    poll_once();
    handle_signals();
    collect();
    check_clock();
  }
}

// All ranks have ended; so does what they started and left.
void Job::clean_up() {
  while (kill_job(job_) > 0) {
    while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
    usleep(10'000);
  }
  for (Rank& rank : ranks_) {
    drain_rank(rank);
    for (Stream& stream : rank.streams) write_all(stream.to, stream.prefixer.finish());
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  if (guard_) guard_->dismiss();
}

int Job::run() {
  if (const Status status = prepare(); !status.ok()) {
    say(status.message());
    exit_code_ = 1;
  } else {
    if (!start_ranks()) {
      phase_ = Phase::killing;
      signal_ranks(SIGKILL);
    }
    loop();
  }
  clean_up();
  return exit_code_.value_or(0);
}

}  // namespace

int run_job(const JobOptions& options) { return Job(options).run(); }

}  // namespace launcher
