// SPDX-License-Identifier: Apache-2.0
// Checkpoints where workers come and go: the servers write them, whoever of the workers lives, and
// a job that was killed whole goes on from the newest with other workers and servers. Integer
// gradients say what is in it.
#include <fmt/format.h>

#include <algorithm>

#include "libdist/checkpoint/reader.h"
#include "tests/ps/elastic_run.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using namespace dist::test;

// What the newest complete checkpoint holds.
struct Kept {
  std::uint64_t step = 0;
  OracleCounts counts{};
  std::array<std::uint64_t, kOracleParameters> versions{};  // where the counts are
};

Kept read_newest(const std::string& directory) {
  const auto files = checkpoint::make_system_files();
  std::vector<std::string> damaged;
  const auto name =
      checkpoint::find_newest(*files, checkpoint::Directory(*files, directory, 0), {}, &damaged);
  REQUIRE_OK(name);
  REQUIRE(damaged.empty());
  Kept kept;
  if (!name->has_value()) return kept;
  auto arena = oracle_arena();
  const auto reader =
      checkpoint::Reader::open(*files, directory + "/" + checkpoint::text_of(**name)).value();
  REQUIRE_OK(reader->fit(checkpoint::Layout::of(arena, name_of(oracle_rule()))));
  kept.step = reader->step();
  const Range whole{0, arena.elems().value};
  REQUIRE_OK(reader->read(whole, 0, arena.parameters(whole)));
  kept.counts = read_counts(arena);
  for (std::size_t p = 0; p < kOracleParameters; ++p) {
    const auto begin = arena.range(p).begin;
    kept.versions[p] = reader->version({begin, begin + kOracleWorkers});
  }
  return kept;
}

// All of a step's askers are one: no step is written twice.
bool no_step_twice(const std::string& directory) {
  const auto files = checkpoint::make_system_files();
  const auto names = checkpoint::Directory(*files, directory, 0).list().value();
  return std::all_of(names.begin(), names.end(),
                     [](const checkpoint::Name& name) { return name.edition == 0; });
}

// Every update is in the parameters, and the version that is kept with them counts it.
void check_kept(const ElasticCase& chosen, const Kept& kept, Board& board) {
  for (std::size_t p = 0; p < kOracleParameters; ++p) {
    INFO("step " << kept.step << ", parameter " << p);
    float sum = 0;
    for (std::size_t w = 0; w < kOracleWorkers; ++w) {
      sum += kept.counts[p][w];
      REQUIRE((chosen.sync() || kept.counts[p][w] <= static_cast<float>(board.started[w])));
    }
    REQUIRE(sum == static_cast<float>(kept.versions[p]) * (chosen.sync() ? 12 : 1));
    REQUIRE((!chosen.sync() || kept.versions[p] == kept.step));
  }
}

// Nobody was killed: everything that was kept, and everything that was pushed since.
void check_resumed(const ElasticCase& chosen, const Kept& kept, ElasticRun& run) {
  Board& board = run.board();
  float steps = 0;
  for (const auto& step : board.step_acknowledged) steps += step ? 1.0f : 0.0f;
  for (int worker = 0; worker < chosen.workers; ++worker) {
    const auto w = static_cast<std::size_t>(worker);
    INFO("worker " << w);
    REQUIRE(board.first_step[w] >= kept.step);
    REQUIRE(board.ends[w] == board.ends[0]);
    for (std::size_t p = 0; p < kOracleParameters && !chosen.sync(); ++p) {
      REQUIRE(board.ends[0][p][w] == kept.counts[p][w] + static_cast<float>(board.acknowledged[w]));
    }
  }
  REQUIRE(board.first_step[0] == kept.step);
  for (std::size_t p = 0; p < kOracleParameters && chosen.sync(); ++p) {
    float sum = 0;
    for (const float count : board.ends[0][p]) sum += count;
    REQUIRE(sum == 12 * (static_cast<float>(kept.step) + steps));
  }
}

void end_all(ElasticRun& run) {
  run.board().stop = true;
  for (int rank = 0; rank < run.ranks(); ++rank) {
    INFO("rank " << rank);
    REQUIRE((!run.running(rank) || run.wait(rank) == 0));
  }
}

bool saved_later(ElasticRun& run, const std::string& directory, std::uint64_t step) {
  return run.until([&] { return read_newest(directory).step > step; });
}

void start_all(ElasticRun& run) {
  for (int rank = 0; rank < run.ranks(); ++rank) run.start(rank);
}

void check_job(ElasticCase chosen, unsigned seed) {
  INFO(fmt::format("{} staleness {}, {} servers", chosen.strategy, chosen.staleness,
                   chosen.servers));
  const ScratchFolder scratch;
  chosen.checkpoints = scratch.path("c");
  {
    ElasticRun run(chosen, seed);
    start_all(run);
    for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 7));
    run.kill(1);
    run.start_again(1);
    REQUIRE(run.steps_more(1, 3));
    // The others need neither worker 0 nor one that stands still.
    run.kill(0);
    REQUIRE(saved_later(run, chosen.checkpoints, read_newest(chosen.checkpoints).step));
    run.start_again(0);
    REQUIRE(run.steps_more(0, 6));
    run.kill_all();
    check_kept(chosen, read_newest(chosen.checkpoints), run.board());
  }
  const auto kept = read_newest(chosen.checkpoints);
  REQUIRE(kept.step > 0);
  chosen.resume = true;
  chosen.workers = 2 + static_cast<int>(seed % 3);
  chosen.servers = chosen.servers % 2 + 1;
  ElasticRun run(chosen, seed + 500);
  start_all(run);
  for (int worker = 0; worker < chosen.workers; ++worker) REQUIRE(run.steps_more(worker, 8));
  REQUIRE(saved_later(run, chosen.checkpoints, kept.step));
  end_all(run);
  check_resumed(chosen, kept, run);
  REQUIRE(no_step_twice(chosen.checkpoints));
}

TEST_CASE("an elastic job that was killed whole goes on from its newest checkpoint") {
  check_job({.strategy = "sync-ps", .servers = 2}, 1);
  check_job({.servers = 1}, 2);
  check_job({.staleness = 2, .servers = 2}, 3);
}

TEST_CASE("so does any, five times over", "[.product]") {
  for (unsigned seed = 100; seed < 130;) {
    for (const int servers : {1, 2}) {
      check_job({.strategy = "sync-ps", .servers = servers}, seed++);
      check_job({.servers = servers}, seed++);
      check_job({.staleness = 2, .servers = servers}, seed++);
    }
  }
}

TEST_CASE("so does one whose lost workers do not come back, and in another kind of world") {
  const ScratchFolder scratch;
  ElasticCase chosen{.servers = 2, .elastic = false, .checkpoints = scratch.path("c")};
  {
    ElasticRun run(chosen, 20);
    start_all(run);
    REQUIRE(run.steps_more(0, 3));
    run.kill(0);
    REQUIRE(saved_later(run, chosen.checkpoints, 0));
    run.kill_all();
    check_kept(chosen, read_newest(chosen.checkpoints), run.board());
  }
  const auto kept = read_newest(chosen.checkpoints);
  chosen.resume = true;
  chosen.elastic = true;
  ElasticRun run(chosen, 21);
  start_all(run);
  for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 3));
  end_all(run);
  check_resumed(chosen, kept, run);
}

TEST_CASE("who saves after every step trains no faster than the disk takes it") {
  const ScratchFolder scratch;
  const ElasticCase chosen{.workers = 2, .checkpoints = scratch.path("c"), .save_every = 1};
  ElasticRun run(chosen, 40);
  start_all(run);
  REQUIRE(run.steps_more(0, 150));
  run.kill_all();
  std::uint64_t newest = 0;
  for (const auto& started : run.board().started) newest = std::max(newest, started.load());
  // One is asked for, one waits, one is written, one is being completed; workers are a step ahead.
  REQUIRE(read_newest(chosen.checkpoints).step + 6 >= newest);
}

// Why push tables are not in a checkpoint: what the earlier job pushes ends with its connections,
// and its workers are not let in.
TEST_CASE("no push of the earlier job gets into the one that resumes it") {
  const ScratchFolder scratch;
  ElasticCase chosen{.servers = 2, .checkpoints = scratch.path("c")};
  ElasticRun earlier(chosen, 30);
  start_all(earlier);
  REQUIRE(saved_later(earlier, chosen.checkpoints, 0));
  REQUIRE(earlier.steps_more(2, 1));
  earlier.signal(2, SIGSTOP);  // with gradients that it has not pushed yet
  for (const int rank : {0, 1, 3, 4}) earlier.kill(rank);
  const auto kept = read_newest(chosen.checkpoints);

  chosen.resume = true;
  ElasticRun run(chosen, 31);
  start_all(run);
  for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 5));
  earlier.signal(2, SIGCONT);
  REQUIRE(earlier.wait(2) == 1);
  // A later life of it knocks where the new servers are.
  auto stranger = run.options(2);
  stranger.incarnation = 7;
  stranger.job = earlier.options(2).job;
  stranger.connect_timeout = std::chrono::seconds(2);
  const auto refused = World::open(stranger);
  REQUIRE_FALSE(refused.ok());
  INFO(refused.status().message());
  CHECK(refused.status().message().find("another job") != std::string::npos);
  for (const int worker : {0, 1, 2}) REQUIRE(run.steps_more(worker, 5));
  end_all(run);
  check_resumed(chosen, kept, run);
}

}  // namespace
