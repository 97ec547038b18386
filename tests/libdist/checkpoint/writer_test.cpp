// SPDX-License-Identifier: Apache-2.0
// Ranks that write one checkpoint side by side, in the background.
#include "libdist/checkpoint/writer.h"

#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "tests/libdist/checkpoint/example.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"
#include "tests/support/threads.h"

namespace {

using namespace dist;
using namespace dist::checkpoint;

struct Job {
  explicit Job(Duration timeout = std::chrono::seconds(30),
               const std::function<void(const Status&)>& tell = nullptr) {
    Directory directory(*files, scratch.path("checkpoints"), 5);
    REQUIRE_OK(directory.prepare());
    for (int rank = 0; rank < 2; ++rank) {
      ranks.push_back(
          std::make_unique<Writer>(directory, test::example_layout(),
                                   WriterOptions{.keep = 2, .timeout = timeout, .tell = tell}));
    }
  }

  Directory directory() { return {*files, scratch.path("checkpoints"), 5}; }

  // A directory stands where its file should go.
  std::string block_shard_1(int step) {
    const auto working =
        scratch.path(fmt::format("checkpoints/.step-{:06}-0000000000000005", step));
    REQUIRE_OK(files->make_directory(working));
    REQUIRE_OK(files->make_directory(working + "/shard-1.part"));
    return working;
  }

  // The step of the newest, all values of which are its own.
  std::uint64_t load() {
    std::vector<std::string> damaged;
    auto reader = test::open_newest(*files, directory(), &damaged).value();
    REQUIRE(reader != nullptr);
    REQUIRE_OK(reader->fit(test::example_layout()));
    REQUIRE_OK(test::check_example(*reader, reader->step()));
    return reader->step();
  }

  test::ScratchFolder scratch;
  const std::unique_ptr<FileSystem> files = make_system_files();
  std::vector<std::unique_ptr<Writer>> ranks;
};

TEST_CASE(
    "a checkpoint is complete when all ranks have written, in whatever order they are asked") {
  Job job;
  for (std::uint64_t step = 1; step <= 4; ++step) {
    if (step % 2 == 0) job.ranks[0]->commit({step, 2, {}, {}});
    job.ranks[1]->accept(test::example_snapshot(step, 1, 2));
    job.ranks[0]->accept(test::example_snapshot(step, 0, 2));
    if (step % 2 == 1) job.ranks[0]->commit({step, 2, {}, {}});
    for (auto& rank : job.ranks) REQUIRE_OK(rank->wait());
    CHECK(job.load() == step);
  }
  CHECK(job.directory().list().value() == std::vector<Name>{{4, 0}, {3, 0}});
}

TEST_CASE("a shard that never comes is waited for until the timeout") {
  Job job(std::chrono::milliseconds(50));
  job.ranks[0]->accept(test::example_snapshot(1, 0, 2));
  job.ranks[0]->commit({1, 2, {}, {}});
  const Status late = job.ranks[0]->wait();
  CHECK(late.code() == ErrorCode::timed_out);
  CHECK(late.message().find("checkpoint of step 1 -> ") == 0);
  CHECK(late.message().find("not all of its 2 shards came") != std::string::npos);
  REQUIRE_OK(job.ranks[0]->wait());  // told once
  CHECK(std::filesystem::is_empty(job.scratch.path("checkpoints")));
}

TEST_CASE("a rank that cannot write says why, and rank 0 does not wait for it") {
  Job job;
  const auto working = job.block_shard_1(1);
  job.ranks[0]->commit({1, 2, {}, {}});
  job.ranks[0]->accept(test::example_snapshot(1, 0, 2));
  job.ranks[1]->accept(test::example_snapshot(1, 1, 2));
  const auto story = job.ranks[1]->wait().message();
  CHECK(story == "checkpoint of step 1: shard 1 -> cannot create " + working +
                     "/shard-1.part: Is a directory");
  CHECK(job.ranks[0]->wait().message() ==
        "checkpoint of step 1 -> shard 1 of 2 could not be written; its rank says why");
  // The next one is well.
  for (int rank : {0, 1}) {
    job.ranks[static_cast<std::size_t>(rank)]->accept(test::example_snapshot(2, rank, 2));
  }
  job.ranks[0]->commit({2, 2, {}, {}});
  for (auto& rank : job.ranks) REQUIRE_OK(rank->wait());
  CHECK(job.load() == 2);
}

// Who asked for step 2 was gone before rank 1 heard of it, and only rank 1 heard of step 3.
TEST_CASE("a checkpoint that lacks a shard is passed over once a later one is whole") {
  Job job;
  job.ranks[1]->accept(test::example_snapshot(1, 1, 2));
  job.ranks[0]->accept(test::example_snapshot(1, 0, 2));
  job.ranks[0]->commit({1, 2, {}, {}});
  job.ranks[0]->accept(test::example_snapshot(2, 0, 2));
  job.ranks[0]->commit({2, 2, {}, {}});
  job.ranks[1]->accept(test::example_snapshot(3, 1, 2));
  job.ranks[1]->accept(test::example_snapshot(4, 1, 2));
  REQUIRE_OK(job.ranks[1]->wait());
  job.ranks[0]->accept(test::example_snapshot(4, 0, 2));
  job.ranks[0]->commit({4, 2, {}, {}});
  for (auto& rank : job.ranks) REQUIRE_OK(rank->wait());
  CHECK(job.load() == 4);
  CHECK(job.directory().list().value() == std::vector<Name>{{4, 0}, {1, 0}});
  const auto left = job.files->list(job.scratch.path("checkpoints")).value();
  CHECK(left.size() == 2);
}

TEST_CASE(
    "failures are told at once where somebody listens, and a later success makes up for them") {
  std::mutex mutex;
  std::vector<std::string> told;
  Job job(std::chrono::seconds(30), [&](const Status& failure) {
    const std::lock_guard lock(mutex);
    told.push_back(failure.message());
  });
  const auto heard = [&] {
    const std::lock_guard lock(mutex);
    return told.size();
  };
  const auto save = [&](std::uint64_t step) {
    for (const int rank : {0, 1}) {
      job.ranks[static_cast<std::size_t>(rank)]->accept(test::example_snapshot(step, rank, 2));
    }
    job.ranks[0]->commit({step, 2, {}, {}});
  };
  job.block_shard_1(1);
  save(1);
  const auto limit = Clock::now() + std::chrono::seconds(30);
  while (heard() < 2 && Clock::now() < limit) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  REQUIRE(heard() == 2);
  save(2);
  for (auto& rank : job.ranks) REQUIRE_OK(rank->wait());
  CHECK(job.load() == 2);
  REQUIRE(heard() == 2);
  CHECK(told[0].find("checkpoint of step 1: shard 1 -> cannot create ") == 0);
  CHECK(told[1].find("checkpoint of step 1 -> shard 1 of 2 could not be written") == 0);
  job.block_shard_1(3);
  save(3);
  for (auto& rank : job.ranks) CHECK_FALSE(rank->wait().ok());
}

TEST_CASE("there is room while no snapshot waits, and commits do not wait for those that come") {
  Job job;
  CHECK(job.ranks[0]->has_room());
  std::uint64_t step = 0;
  bool crowded = false;
  const auto limit = Clock::now() + std::chrono::seconds(30);
  // As soon as there is room: while the fourth is written at the latest the first is complete.
  while (step < 5 && Clock::now() < limit) {
    if (job.ranks[0]->has_room()) {
      job.ranks[0]->accept(test::example_snapshot(++step, 0, 1));
      job.ranks[0]->commit({step, 1, {}, {}});
    }
    crowded = crowded || !job.ranks[0]->has_room();
  }
  CHECK(crowded);
  CHECK(step == 5);
  CHECK_FALSE(job.directory().list().value().empty());
  REQUIRE_OK(job.ranks[0]->wait());
  CHECK(job.ranks[0]->has_room());
  CHECK(job.load() == step);
}

TEST_CASE("a writer that goes gives up what waits and leaves no thread") {
  const auto before = test::count_threads();
  {
    Job job;
    CHECK(test::count_threads() == before + 2);
    job.ranks[0]->commit({1, 2, {}, {}});
  }
  CHECK(test::count_threads() == before);
}

}  // namespace
