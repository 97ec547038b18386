// SPDX-License-Identifier: Apache-2.0
// Workers as processes that are killed, stopped, and started again while the others train: what was
// acknowledged is applied once, the others go on. [.oracle]: 200 seeded runs.
#include "tests/ps/elastic_run.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::test;

// Asynchronous: acknowledged pushes are there, once; of a killed life's last push a piece has it or
// not. Together: as many means as there were steps.
void check_ends(const ElasticCase& chosen, ElasticRun& run) {
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

void end_all(const ElasticCase& chosen, ElasticRun& run) {
  run.board().stop = true;
  for (int rank = 0; rank < run.ranks(); ++rank) {
    if (!run.running(rank)) continue;
    INFO("rank " << rank);
    REQUIRE(run.wait(rank) == 0);
  }
  check_ends(chosen, run);
}

// Kills, restarts, stops and continues workers at random; worker 0 lives on, so that somebody does.
void disturb(ElasticRun& run, const ElasticCase& chosen, unsigned seed, int actions) {
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
  ElasticCase chosen;
  chosen.strategy = random() % 3 == 0 ? "sync-ps" : "async-ps";
  chosen.staleness =
      std::array{kUnlimitedStaleness, std::uint64_t{1}, std::uint64_t{4}}[random() % 3];
  chosen.workers = 2 + static_cast<int>(random() % 3);
  chosen.servers = 1 + static_cast<int>(random() % 3);
  INFO(fmt::format("seed {}: {} staleness {}, {} workers, {} servers", seed, chosen.strategy,
                   chosen.staleness, chosen.workers, chosen.servers));
  ElasticRun run(chosen, seed);
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
  for (const ElasticCase& chosen :
       {ElasticCase{}, ElasticCase{.staleness = 2}, ElasticCase{.strategy = "sync-ps"},
        ElasticCase{.strategy = "sync-ps", .servers = 2}}) {
    INFO(chosen.strategy << ", " << chosen.servers << " servers");
    ElasticRun run(chosen, 1);
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
  for (const ElasticCase& chosen :
       {ElasticCase{.strategy = "sync-ps", .servers = 2, .elastic = false},
        ElasticCase{.staleness = 1, .elastic = false}}) {
    INFO(chosen.strategy);
    ElasticRun run(chosen, 6);
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
  const ElasticCase chosen{.workers = 3, .servers = 2, .min_workers = 1};
  ElasticRun run(chosen, 2);
  for (const int rank : {0, 3, 4}) run.start(rank);
  REQUIRE(run.steps_more(0, 5));
  run.start(2);
  REQUIRE(run.steps_more(2, 5));
  end_all(chosen, run);
}

TEST_CASE("all workers may die and come back: the servers keep the parameters") {
  for (const auto* strategy : {"async-ps", "sync-ps"}) {
    const ElasticCase chosen{.strategy = strategy, .workers = 2, .servers = 2};
    ElasticRun run(chosen, 3);
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
    const ElasticCase chosen{
        .strategy = strategy, .staleness = 1, .timeout = std::chrono::milliseconds(1500)};
    ElasticRun run(chosen, 4);
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
  const ElasticCase chosen{.servers = 2};
  ElasticRun run(chosen, 5);
  for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
  for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 3));
  run.kill(4);
  const auto killed = Clock::now();
  for (const int rank : {0, 1, 2, 3}) REQUIRE(run.wait(rank) == 1);
  REQUIRE(Clock::now() - killed < std::chrono::seconds(20));
}

}  // namespace
