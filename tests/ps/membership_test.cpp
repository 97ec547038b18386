// SPDX-License-Identifier: Apache-2.0
// Workers as processes that are killed, stopped, and started again while the others train: what was
// acknowledged is applied once, the others go on. [.oracle]: 200 seeded runs.
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
#include <thread>

#include "tests/ps/oracle.h"
#include "tests/support/catch.h"
#include "tests/support/processes.h"

namespace {

using namespace dist;
using namespace dist::test;

constexpr std::size_t kMostSteps = 1 << 16;
constexpr auto kPatience = std::chrono::seconds(20);

struct Case {
  std::string strategy = "async-ps";
  std::uint64_t staleness = kUnlimitedStaleness;
  int workers = 3;
  int servers = 1;
  int min_workers = 0;
  Duration timeout = std::chrono::seconds(30);
  bool elastic = true;  // else: one life each, and dropped when it is lost
  bool sync() const { return strategy == "sync-ps"; }
};

// What all processes of a run tell each other, in shared memory.
struct Board {
  std::atomic<bool> stop{false};
  std::array<std::atomic<std::uint64_t>, kOracleWorkers> started{};
  std::array<std::atomic<std::uint64_t>, kOracleWorkers> acknowledged{};
  std::array<std::atomic<int>, kOracleWorkers> came{};
  std::array<std::atomic<bool>, kOracleWorkers> ended{};
  std::array<OracleCounts, kOracleWorkers> ends{};
  std::array<std::atomic<bool>, kMostSteps> step_started{};
  std::array<std::atomic<bool>, kMostSteps> step_acknowledged{};
};

// A worker that stood still has seen every life of the others go from s steps behind it to s ahead.
int lives(const Board& board) {
  int all = 0;
  for (const auto& came : board.came) all += came;
  return all;
}

// A failure shows as the exit code: 1, with its story on stderr.
void work(const Case& chosen, World& world, Board& board, unsigned seed) {
  auto arena = oracle_arena();
  const auto strategy = make_strategy(chosen.strategy, world, arena, oracle_rule()).value();
  expect_ok(strategy->begin());
  const int worker = strategy->worker();
  if (worker < 0) return expect_ok(strategy->end());
  const auto self = static_cast<std::size_t>(worker);
  ++board.came[self];
  std::mt19937 random(seed + self * 1000);
  std::uint64_t step = strategy->next_step();
  OracleCounts before{};
  for (; !board.stop && step < kMostSteps; ++step) {
    ++board.started[self];
    board.step_started[step] = true;
    contribute(*strategy, arena, chosen.sync() ? 12 : 1);
    const auto report = strategy->finish_step().value();
    expect(report.step == step, "the number of the step");
    ++board.acknowledged[self];
    board.step_acknowledged[step] = true;
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
class Run {
 public:
  Run(Case chosen, unsigned seed)
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
  ~Run() {
    for (const pid_t pid : pids_) {
      if (pid != 0) ::kill(pid, SIGKILL);
      if (pid != 0) ::waitpid(pid, nullptr, 0);
    }
    std::filesystem::remove_all(directory_);
    ::munmap(board_, sizeof(Board));
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

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
      Options options = oracle_options();
      options.transport = "tcp";
      options.elastic = chosen_.elastic;
      options.on_worker_loss = "drop";
      options.placement = Placement::dedicated;
      options.servers = chosen_.servers;
      options.rank = rank;
      options.ranks = ranks();
      options.job = 0xe1a50000u + static_cast<std::uint64_t>(::getppid()) * 1024 + seed_;
      options.rendezvous = "dir:" + directory_;
      options.incarnation = incarnations_[at(rank)];
      options.staleness = chosen_.staleness;
      options.min_workers = chosen_.min_workers;
      options.timeout = chosen_.timeout;
      options.log = "quiet";
      auto world = World::open(std::move(options)).value();
      work(chosen_, world, *board_, seed_);
    } catch (const std::exception& failure) {
      std::fprintf(stderr, "rank %d: %s\n", rank, failure.what());
      code = 1;
    }
    std::fflush(nullptr);
    ::_exit(code);
  }

  const Case chosen_;
  const unsigned seed_;
  Board* const board_;
  const std::string directory_;
  std::vector<pid_t> pids_;
  std::vector<std::uint32_t> incarnations_;
  std::vector<bool> killed_;
};

// Asynchronous: acknowledged pushes are there, once; of a killed life's last push a piece has it or
// not. Together: as many means as there were steps.
void check_ends(const Case& chosen, Run& run) {
  Board& board = run.board();
  const OracleCounts* first = nullptr;
  for (std::size_t w = 0; w < kOracleWorkers; ++w) {
    if (!board.ended[w]) continue;
    if (first == nullptr) first = &board.ends[w];
    REQUIRE(board.ends[w] == *first);
  }
  REQUIRE(first != nullptr);
  float steps_acknowledged = 0;
  float steps_started = 0;
  for (std::size_t s = 0; s < kMostSteps; ++s) {
    steps_acknowledged += board.step_acknowledged[s] ? 1.0f : 0.0f;
    steps_started += board.step_started[s] ? 1.0f : 0.0f;
  }
  for (const auto& counts : *first) {
    float sum = 0;
    for (std::size_t w = 0; w < static_cast<std::size_t>(chosen.workers); ++w) {
      sum += counts[w];
      if (chosen.sync()) continue;
      INFO("worker " << w);
      REQUIRE(counts[w] >= static_cast<float>(board.acknowledged[w]));
      REQUIRE(counts[w] <= static_cast<float>(board.started[w]));
      const bool whole = !run.ever_killed(static_cast<int>(w));
      REQUIRE((!whole || board.started[w] == board.acknowledged[w]));
    }
    if (!chosen.sync()) continue;
    REQUIRE(sum >= 12 * steps_acknowledged);
    REQUIRE(sum <= 12 * steps_started);
  }
}

void end_all(const Case& chosen, Run& run) {
  run.board().stop = true;
  for (int rank = 0; rank < run.ranks(); ++rank) {
    if (!run.running(rank)) continue;
    INFO("rank " << rank);
    REQUIRE(run.wait(rank) == 0);
  }
  check_ends(chosen, run);
}

// Kills, restarts, stops and continues workers at random; worker 0 lives on, so that somebody does.
void disturb(Run& run, const Case& chosen, unsigned seed, int actions) {
  std::mt19937 random(seed);
  const auto pick = [&](int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  };
  std::vector<bool> stopped(static_cast<std::size_t>(chosen.workers), false);
  for (int action = 0; action < actions; ++action) {
    std::this_thread::sleep_for(std::chrono::milliseconds(pick(1, 25)));
    const int worker = pick(0, chosen.workers - 1);
    auto is_stopped = stopped[static_cast<std::size_t>(worker)];
    if (!run.running(worker)) {
      run.start_again(worker);
    } else if (is_stopped) {
      run.signal(worker, SIGCONT);
      is_stopped = false;
    } else if (pick(0, 2) == 0) {
      run.signal(worker, SIGSTOP);
      is_stopped = true;
    } else if (worker != 0 || pick(0, 3) == 0) {
      run.kill(worker);
    }
  }
  for (int worker = 0; worker < chosen.workers; ++worker) {
    if (!run.running(worker)) run.start_again(worker);
    run.signal(worker, SIGCONT);
  }
}

void random_run(unsigned seed, int actions) {
  std::mt19937 random(seed);
  Case chosen;
  chosen.strategy = random() % 3 == 0 ? "sync-ps" : "async-ps";
  chosen.staleness =
      std::array{kUnlimitedStaleness, std::uint64_t{1}, std::uint64_t{4}}[random() % 3];
  chosen.workers = 2 + static_cast<int>(random() % 3);
  chosen.servers = 1 + static_cast<int>(random() % 3);
  INFO(fmt::format("seed {}: {} staleness {}, {} workers, {} servers", seed, chosen.strategy,
                   chosen.staleness, chosen.workers, chosen.servers));
  Run run(chosen, seed);
  for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
  disturb(run, chosen, seed + 77, actions);
  for (int worker = 0; worker < chosen.workers; ++worker) REQUIRE(run.steps_more(worker, 2));
  end_all(chosen, run);
}

TEST_CASE("workers killed, stopped and started again at random: nothing lost, nothing doubled") {
  for (unsigned seed = 1; seed <= 6; ++seed) random_run(seed, 12);
}

TEST_CASE("200 seeded runs", "[.oracle]") {
  for (unsigned seed = 1000; seed < 1200; ++seed) random_run(seed, 12);
}

TEST_CASE("while a worker is dead the others go on; it comes back where they are") {
  for (const Case& chosen : {Case{}, Case{.staleness = 2}, Case{.strategy = "sync-ps"},
                             Case{.strategy = "sync-ps", .servers = 2}}) {
    INFO(chosen.strategy << ", " << chosen.servers << " servers");
    Run run(chosen, 1);
    for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
    for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 5));
    run.kill(1);
    for (const int worker : {0, 2}) REQUIRE(run.steps_more(worker, 20));
    run.start_again(1);
    REQUIRE(run.steps_more(1, 5));
    REQUIRE(run.board().came[1] == 2);
    end_all(chosen, run);
  }
}

TEST_CASE("on-worker-loss=drop without comebacks: the mean is over those who are left") {
  for (const Case& chosen : {Case{.strategy = "sync-ps", .servers = 2, .elastic = false},
                             Case{.staleness = 1, .elastic = false}}) {
    INFO(chosen.strategy);
    Run run(chosen, 6);
    for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
    for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 5));
    run.kill(1);
    for (const int worker : {0, 2}) REQUIRE(run.steps_more(worker, 20));
    run.kill(0);
    REQUIRE(run.steps_more(2, 20));
    end_all(chosen, run);
  }
}

TEST_CASE("a slot may be empty at the start, and filled later") {
  const Case chosen{.workers = 3, .servers = 2, .min_workers = 1};
  Run run(chosen, 2);
  for (const int rank : {0, 3, 4}) run.start(rank);
  REQUIRE(run.steps_more(0, 5));
  run.start(2);
  REQUIRE(run.steps_more(2, 5));
  end_all(chosen, run);
}

TEST_CASE("all workers may die and come back: the servers keep the parameters") {
  for (const auto* strategy : {"async-ps", "sync-ps"}) {
    const Case chosen{.strategy = strategy, .workers = 2, .servers = 2};
    Run run(chosen, 3);
    for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
    for (int life = 0; life < 3; ++life) {
      for (const int worker : {0, 1}) REQUIRE(run.steps_more(worker, 5));
      for (const int worker : {0, 1}) run.kill(worker);
      for (const int worker : {1, 0}) run.start_again(worker);
    }
    for (const int worker : {0, 1}) REQUIRE(run.steps_more(worker, 5));
    end_all(chosen, run);
  }
}

TEST_CASE("a worker that stands still is let go after the timeout, and cannot speak any more") {
  for (const auto* strategy : {"async-ps", "sync-ps"}) {
    const Case chosen{
        .strategy = strategy, .staleness = 1, .timeout = std::chrono::milliseconds(1500)};
    Run run(chosen, 4);
    for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
    for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 3));
    run.signal(1, SIGSTOP);
    for (const int worker : {0, 2}) REQUIRE(run.steps_more(worker, 20));
    run.signal(1, SIGCONT);
    REQUIRE(run.wait(1) == 1);
    run.start_again(1);
    REQUIRE(run.steps_more(1, 3));
    run.note_lost(1);
    end_all(chosen, run);
  }
}

TEST_CASE("a server's death ends the job of all workers soon") {
  const Case chosen{.servers = 2};
  Run run(chosen, 5);
  for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
  for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 3));
  run.kill(4);
  const auto killed = Clock::now();
  for (const int rank : {0, 1, 2, 3}) REQUIRE(run.wait(rank) == 1);
  REQUIRE(Clock::now() - killed < std::chrono::seconds(20));
}

}  // namespace
