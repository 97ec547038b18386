// SPDX-License-Identifier: Apache-2.0
// Whatever happens at whichever operation of a checkpoint: afterwards the older or the new one
// loads, whole, never a mixture.
#include "libdist/checkpoint/directory.h"

#include "tests/libdist/checkpoint/example.h"
#include "tests/libdist/checkpoint/fault_files.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::checkpoint;
using test::Fault;
using test::FaultFiles;

constexpr int kShards = 2;

Contents contents_of(std::uint64_t step) {
  const auto text = std::to_string(step);
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {step, kShards, {{"step", text}}, {{"weights", {bytes.begin(), bytes.end()}}}};
}

// What the ranks of a job do, one after the other.
Status save(Directory& directory, std::uint64_t step, int keep) {
  const auto layout = test::example_layout();
  Status outcome;
  for (int shard = 0; shard < kShards; ++shard) {
    const auto snapshot = test::example_snapshot(step, shard, kShards);
    const Status written = directory.write_shard(layout, snapshot);
    if (!written.ok()) directory.give_up_shard(snapshot);
    if (outcome.ok()) outcome = written;
  }
  if (outcome.ok()) outcome = directory.shards_complete(contents_of(step)).status();
  if (outcome.ok()) outcome = directory.commit(layout, contents_of(step)).status();
  if (!outcome.ok()) {
    directory.discard(step);
    return outcome;
  }
  return directory.prune(keep);
}

// The step of the newest checkpoint, every value of which is that step's; 0: there is none.
std::uint64_t load(FaultFiles& files, const Directory& directory) {
  std::vector<std::string> damaged;
  auto reader = test::open_newest(files, directory, &damaged);
  REQUIRE_OK(reader);
  if (*reader == nullptr) return 0;
  REQUIRE_OK((*reader)->fit(test::example_layout()));
  const auto step = (*reader)->step();
  REQUIRE_OK(test::check_example(**reader, step));
  CHECK((*reader)->manifest().values.at("step") == std::to_string(step));
  return step;
}

// Saves step 2 over step 1 with a fault at operation `at`; whether the fault came to pass.
bool save_with_fault(Fault fault, std::size_t at, unsigned seed, int keep, bool power_lost) {
  FaultFiles files;
  Directory directory(files, "checkpoints", 77);
  REQUIRE_OK(directory.prepare());
  REQUIRE_OK(save(directory, 1, keep));
  files.lose_power(0);
  files.fail(fault, at);
  const Status saved = save(directory, 2, keep);
  const bool struck = files.struck();
  INFO("fault " << static_cast<int>(fault) << " at " << at << ", seed " << seed << ", keep " << keep
                << ", power lost " << power_lost << ": " << saved.message());
  if (power_lost) files.lose_power(seed);
  files.heal();
  const auto found = load(files, directory);
  CHECK((found == 1 || found == 2));
  if (saved.ok()) CHECK(found == 2);
  // A later job goes on as if nothing had been.
  Directory next(files, "checkpoints", 78);
  REQUIRE_OK(next.prepare());
  CHECK(load(files, next) == found);
  REQUIRE_OK(save(next, 3, keep));
  files.lose_power(0);
  CHECK(load(files, next) == 3);
  return struck;
}

TEST_CASE("a crash, a full disk, a short write or a failed sync at any operation does no harm") {
  for (const Fault fault : {Fault::crash, Fault::full, Fault::short_write, Fault::sync_error}) {
    for (const int keep : {1, 2}) {
      std::size_t at = 0;
      for (bool struck = true; struck; ++at) {
        struck = false;
        for (unsigned seed = 0; seed < 8; ++seed) {
          struck = save_with_fault(fault, at, seed, keep, true);
        }
        if (fault != Fault::crash) save_with_fault(fault, at, 0, keep, false);
      }
      CHECK(at > 30);  // as many operations as a checkpoint has at least
    }
  }
}

TEST_CASE("a short write is written on") {
  FaultFiles files;
  Directory directory(files, "checkpoints", 77);
  REQUIRE_OK(directory.prepare());
  files.fail(Fault::short_write, 2);  // the first write of the first shard
  REQUIRE_OK(save(directory, 1, 1));
  CHECK(load(files, directory) == 1);
}

TEST_CASE("a damaged newest checkpoint is passed over and told") {
  for (const std::string file : {"shard-0", "shard-1", "manifest", "weights"}) {
    FaultFiles files;
    Directory directory(files, "checkpoints", 77);
    REQUIRE_OK(directory.prepare());
    REQUIRE_OK(save(directory, 1, 2));
    REQUIRE_OK(save(directory, 2, 2));
    const auto path = "checkpoints/step-000002/" + file;
    const auto size = (*files.open(path).value()).size().value();
    for (std::size_t at = 0; at < size; at += file == "weights" ? 1 : 7) {
      files.damage(path, at);
      std::vector<std::string> damaged;
      auto reader = test::open_newest(files, directory, &damaged);
      INFO(path << " byte " << at);
      REQUIRE_OK(reader);
      CHECK((*reader)->step() == 1);
      REQUIRE(damaged.size() == 1);
      CHECK(damaged[0].find(path) != std::string::npos);
      files.damage(path, at);
    }
    CHECK(load(files, directory) == 2);
  }
}

TEST_CASE("the newest are kept, and what has another name stays") {
  FaultFiles files;
  Directory directory(files, "checkpoints", 77);
  REQUIRE_OK(directory.prepare());
  REQUIRE_OK(files.make_directory("checkpoints/step-x"));
  for (std::uint64_t step = 1; step <= 5; ++step) REQUIRE_OK(save(directory, 10 * step, 2));
  CHECK(directory.list().value() == std::vector<Name>{{50, 0}, {40, 0}});
  CHECK(files.list("checkpoints").value() ==
        std::vector<std::string>{"step-000040", "step-000050", "step-x"});
}

TEST_CASE("the same step again becomes another edition, and the newer stays") {
  FaultFiles files;
  Directory directory(files, "checkpoints", 77);
  REQUIRE_OK(directory.prepare());
  for (int i = 0; i < 3; ++i) REQUIRE_OK(save(directory, 4, 2));
  CHECK(directory.list().value() == std::vector<Name>{{4, 2}});
  REQUIRE_OK(save(directory, 5, 2));
  REQUIRE_OK(save(directory, 5, 2));
  CHECK(directory.list().value() == std::vector<Name>{{5, 1}, {4, 2}});
}

TEST_CASE("rank 0 waits for every shard, and hears of one that was given up") {
  FaultFiles files;
  Directory directory(files, "checkpoints", 77);
  REQUIRE_OK(directory.prepare());
  const auto layout = test::example_layout();
  CHECK(directory.shards_complete(contents_of(1)).value() == false);
  REQUIRE_OK(directory.write_shard(layout, test::example_snapshot(1, 1, 2)));
  CHECK(directory.shards_complete(contents_of(1)).value() == false);
  directory.give_up_shard(test::example_snapshot(1, 0, 2));
  CHECK(directory.shards_complete(contents_of(1)).status().message() ==
        "shard 0 of 2 could not be written; its rank says why");
}

TEST_CASE("names") {
  CHECK(text_of({123, 0}) == "step-000123");
  CHECK(text_of({12345678, 2}) == "step-12345678.2");
  for (const Name name : {Name{0, 0}, Name{7, 1}, Name{12345678, 20}}) {
    CHECK(parse_name(text_of(name)) == name);
  }
  for (const auto* text : {"step-", "step-1", "step-000001.0", "step-000001.", ".step-000001",
                           "step-000001x", "step-0000001", "", "step-000001.1-removed"}) {
    CHECK_FALSE(parse_name(text).has_value());
  }
}

}  // namespace
