// SPDX-License-Identifier: Apache-2.0
// An elastic job for the oracle: servers and workers as processes that a test kills, stops and
// starts again.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/ps/oracle.h"
#include "tests/support/processes.h"

namespace dist::test {

inline constexpr std::size_t kMostSteps = 1 << 16;
inline constexpr auto kPatience = std::chrono::seconds(20);

struct ElasticCase {
  std::string strategy = "async-ps";
  std::uint64_t staleness = kUnlimitedStaleness;
  int workers = 3;
  int servers = 1;
  int min_workers = 0;
  Duration timeout = std::chrono::seconds(30);
  bool elastic = true;           // else: one life each, and dropped when it is lost
  std::string checkpoints = {};  // their directory; "": none
  bool resume = false;
  std::uint64_t save_every = 5;
  bool sync() const { return strategy == "sync-ps"; }
};

// What all processes of a run tell each other, in shared memory.
struct Board {
  std::atomic<bool> stop{false};
  std::array<std::atomic<std::uint64_t>, kOracleWorkers> started{};
  std::array<std::atomic<std::uint64_t>, kOracleWorkers> acknowledged{};
  std::array<std::atomic<int>, kOracleWorkers> came{};
  std::array<std::atomic<bool>, kOracleWorkers> ended{};
  std::array<std::atomic<std::uint64_t>, kOracleWorkers> first_step{};  // of the latest life
  std::array<OracleCounts, kOracleWorkers> ends{};
  std::array<std::atomic<bool>, kMostSteps> step_started{};
  std::array<std::atomic<bool>, kMostSteps> step_acknowledged{};
};

// A worker that stood still has seen every life of the others go from s steps behind it to s ahead.
inline int lives(const Board& board) {
  int all = 0;
  for (const auto& came : board.came) all += came;
  return all;
}

// A failure shows as the exit code: 1, with its story on stderr.
inline void work(const ElasticCase& chosen, World& world, Board& board, unsigned seed) {
  auto arena = oracle_arena();
  std::unique_ptr<Checkpoints> checkpoints;
  if (!chosen.checkpoints.empty()) {
    checkpoints = open_checkpoints(world, arena, name_of(oracle_rule()),
                                   {.directory = chosen.checkpoints, .resume = chosen.resume})
                      .value();
  }
  const auto strategy = make_strategy(chosen.strategy, world, arena, oracle_rule()).value();
  if (checkpoints) checkpoints->attach(*strategy);
  expect_ok(strategy->begin());
  const int worker = strategy->worker();
  if (worker < 0) {
    expect_ok(strategy->end());
    if (checkpoints) expect_ok(checkpoints->wait());
    return;
  }
  const auto self = static_cast<std::size_t>(worker);
  ++board.came[self];
  std::mt19937 random(seed + self * 1000);
  std::uint64_t step = strategy->next_step();
  board.first_step[self] = step;
  OracleCounts before{};
  for (; !board.stop && step < kMostSteps; ++step) {
    ++board.started[self];
    board.step_started[step] = true;
    contribute(*strategy, arena, chosen.sync() ? 12 : 1);
    const auto report = strategy->finish_step().value();
    expect(report.step == step, "the number of the step");
    ++board.acknowledged[self];
    board.step_acknowledged[step] = true;
    if (checkpoints && (step + 1) % chosen.save_every == 0) {
      expect_ok(checkpoints->save(*strategy));
    }
    const auto counts = read_counts(arena);
    expect(never_less(before, counts), "a version went back");
    before = counts;
    expect(chosen.sync() || chosen.staleness == kUnlimitedStaleness ||
               report.staleness <= staleness_limit(lives(board), chosen.staleness),
           "staleness {}", report.staleness);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
  }
  expect_ok(strategy->join());
  board.ends[self] = read_counts(arena);
  board.ended[self] = true;
  expect_ok(strategy->end());
}

// One run: servers and workers as children of this process.
class ElasticRun {
 public:
  ElasticRun(ElasticCase chosen, unsigned seed)
      : chosen_(std::move(chosen)),
        seed_(seed),
        board_(new (::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Board),
        directory_((std::filesystem::temp_directory_path() /
                    fmt::format("dist-elastic-{}-{}", ::getpid(), seed))
                       .string()),
        pids_(static_cast<std::size_t>(ranks()), 0),
        incarnations_(static_cast<std::size_t>(ranks()), 0),
        killed_(static_cast<std::size_t>(ranks()), false) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
    std::filesystem::permissions(directory_, std::filesystem::perms::owner_all);
  }
  ~ElasticRun() {
    for (const pid_t pid : pids_) {
      if (pid != 0) ::kill(pid, SIGKILL);
      if (pid != 0) ::waitpid(pid, nullptr, 0);
    }
    std::filesystem::remove_all(directory_);
    ::munmap(board_, sizeof(Board));
  }
  ElasticRun(const ElasticRun&) = delete;
  ElasticRun& operator=(const ElasticRun&) = delete;

  /// Of a rank's next life.
  Options options(int rank) const {
    Options options = oracle_options();
    options.transport = "tcp";
    options.elastic = chosen_.elastic;
    options.on_worker_loss = "drop";
    options.placement = Placement::dedicated;
    options.servers = chosen_.servers;
    options.rank = rank;
    options.ranks = ranks();
    options.job = 0xe1a50000u + static_cast<std::uint64_t>(parent_) * 1024 + seed_;
    options.rendezvous = "dir:" + directory_;
    options.incarnation = incarnations_[at(rank)];
    options.staleness = chosen_.staleness;
    options.min_workers = chosen_.min_workers;
    options.timeout = chosen_.timeout;
    options.log = "quiet";
    return options;
  }
  Board& board() { return *board_; }
  int ranks() const { return chosen_.workers + chosen_.servers; }
  bool running(int rank) const { return pids_[at(rank)] != 0; }
  void note_lost(int rank) { killed_[at(rank)] = true; }
  bool ever_killed(int rank) const { return killed_[at(rank)]; }

  void start(int rank) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0) throw std::runtime_error("fork failed");
    if (child == 0) live(rank);
    pids_[at(rank)] = child;
  }
  void start_again(int rank) {
    ++incarnations_[at(rank)];
    start(rank);
  }
  void signal(int rank, int number) { ::kill(pids_[at(rank)], number); }
  void kill(int rank) {
    signal(rank, SIGKILL);
    ::waitpid(pids_[at(rank)], nullptr, 0);
    pids_[at(rank)] = 0;
    killed_[at(rank)] = true;
  }
  void kill_all() {
    for (int rank = 0; rank < ranks(); ++rank) {
      if (running(rank)) kill(rank);
    }
  }
  /// The exit code, or -1 for a process that does not end in time.
  int wait(int rank) {
    const auto limit = Clock::now() + kPatience;
    int status = 0;
    while (::waitpid(pids_[at(rank)], &status, WNOHANG) == 0) {
      if (Clock::now() > limit) return -1;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    pids_[at(rank)] = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  template <typename Condition>
  bool until(const Condition& condition) const {
    const auto limit = Clock::now() + kPatience;
    while (!condition()) {
      if (Clock::now() > limit) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  bool steps_more(int worker, std::uint64_t steps) const {
    const auto& count = board_->acknowledged[at(worker)];
    const auto goal = count + steps;
    return until([&] { return count >= goal; });
  }

 private:
  static std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

  [[noreturn]] void live(int rank) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int code = 0;
    try {
      auto world = World::open(options(rank)).value();
      work(chosen_, world, *board_, seed_);
    } catch (const std::exception& failure) {
      std::fprintf(stderr, "rank %d: %s\n", rank, failure.what());
      code = 1;
    }
    std::fflush(nullptr);
    ::_exit(code);
  }

  const ElasticCase chosen_;
  const unsigned seed_;
  const pid_t parent_ = ::getpid();
  Board* const board_;
  const std::string directory_;
  std::vector<pid_t> pids_;
  std::vector<std::uint32_t> incarnations_;
  std::vector<bool> killed_;
};

}  // namespace dist::test
