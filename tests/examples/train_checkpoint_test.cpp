// SPDX-License-Identifier: Apache-2.0
// train_cnn killed, stopped and resumed: the same parameters, to the bit, as if nothing had been.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

constexpr int kStopped = 75;

const std::string kRun =
    "--model small_cnn --backend ref --data learnable --batch 4 --steps 38 --warmup 2 "
    "--learning-rate 0.05 --deterministic ";

std::string hash_of(const Trained& run) { return run.record["parameter_hash"]; }

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Complete checkpoints in a directory, ascending.
std::vector<std::string> checkpoints_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("step-")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("a job killed by kill -9 resumes to the bits of an undisturbed one") {
  const std::vector<std::pair<int, std::string>> jobs = {
      {2, "--strategy ring "},
      {2, "--strategy ring --transport tcp --dist-shard-optimizer=1 "},
      {2, "--strategy sync-ps "},
      {3, "--strategy sync-ps --placement dedicated --transport tcp "},
      {3, "--strategy sync-ps --dist-compress=one-bit --dist-compress-at-least-bytes=1 "}};
  for (const auto& [ranks, strategy] : jobs) {
    INFO(strategy);
    const auto undisturbed = hash_of(train(ranks, kRun + strategy));
    const ScratchDirectory scratch;
    const auto saving = kRun + strategy + "--checkpoint " + scratch.path("c") + " ";
    {
      Program job(train_command(ranks, saving + "--checkpoint-every 5 --progress"));
      job.wait_for("[0] step    20/");
      for (const pid_t rank : children_of(job.pid(), "train_cnn")) ::kill(rank, SIGKILL);
      job.wait(20);
    }
    REQUIRE_FALSE(checkpoints_in(scratch.path("c")).empty());
    const auto resumed = train(ranks, saving + "--resume");
    CHECK(contains(resumed.process.out, "resumed at step "));
    CHECK_FALSE(contains(resumed.process.out, "resumed at step 40"));
    CHECK(hash_of(resumed) == undisturbed);
    CHECK(checkpoints_in(scratch.path("c")).back() == "step-000040");
  }
}

TEST_CASE("SIGTERM leaves a checkpoint and an exit code of its own") {
  const auto undisturbed = hash_of(train(1, kRun));
  const ScratchDirectory scratch;
  const auto saving = kRun + "--checkpoint " + scratch.path("c");
  {
    auto command = train_command(1, saving + " --progress");
    command.erase(command.begin(), std::find(command.begin(), command.end(), built("train_cnn")));
    Program alone(command);
    alone.wait_for("step    10/");
    alone.signal(SIGTERM);
    const auto done = alone.wait(60);
    INFO(done.out << done.err);
    CHECK(done.exit_code == kStopped);
    CHECK(contains(done.err, "stopped by SIGTERM after "));
  }
  CHECK(checkpoints_in(scratch.path("c")).size() == 1);
  CHECK(hash_of(train(1, saving + " --resume")) == undisturbed);
}

TEST_CASE("all ranks of a synchronous job stop after the same step, also where one is told") {
  for (const std::string strategy : {"--strategy ring ", "--strategy sync-ps "}) {
    INFO(strategy);
    const auto undisturbed = hash_of(train(3, kRun + strategy));
    const ScratchDirectory scratch;
    const auto saving = kRun + strategy + "--checkpoint " + scratch.path("c");
    {
      Program job(train_command(3, saving + " --progress"));
      job.wait_for("[0] step    10/");
      ::kill(children_of(job.pid(), "train_cnn").back(), SIGTERM);
      const auto done = job.wait(60);
      INFO(done.out << done.err);
      CHECK(done.exit_code == kStopped);
    }
    const auto resumed = train(3, saving + " --resume");
    CHECK(hash_of(resumed) == undisturbed);
  }
}

TEST_CASE("who survives a killed rank says how many steps are lost") {
  const ScratchDirectory scratch;
  Program job(
      train_command(2, kRun + "--strategy sync-ps --progress --checkpoint-every 5 --checkpoint " +
                           scratch.path("c")));
  job.wait_for("[0] step    13/");
  ::kill(children_of(job.pid(), "train_cnn").back(), SIGKILL);
  const auto done = job.wait(20);
  INFO(done.err);
  CHECK(contains(done.err, "; the newest complete checkpoint holds "));
  CHECK(contains(done.err, " are lost: go on with --resume"));
}

TEST_CASE("async-ps resumes with its versions, and on other ranks") {
  const ScratchDirectory scratch;
  const auto run = [&](const std::string& more) {
    return "--model small_cnn --backend ref --batch 2 --warmup 0 --strategy async-ps "
           "--optimizer sgd --checkpoint " +
           scratch.path("c") + " " + more;
  };
  train(3, run("--steps 5"));
  const auto resumed = train(2, run("--steps 8 --resume --servers 1"));
  CHECK(contains(resumed.process.out, "resumed at step 5 (version "));
  CHECK(checkpoints_in(scratch.path("c")).back() == "step-000008");
}

TEST_CASE("weights.safetensors holds the parameters, as PyTorch reads them") {
  const ScratchDirectory scratch;
  const auto run = train(2, kRun + "--strategy ring --checkpoint " + scratch.path("c"));
  const auto path = scratch.path("c/step-000040/weights.safetensors");
  const std::string bytes = read_text(path);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  CHECK(length % 8 == 0);
  const auto header = nlohmann::ordered_json::parse(bytes.substr(8, length));
  CHECK(header["conv1.weight"]["shape"] == std::vector<int>{16, 3, 3, 3});
  CHECK(header["__metadata__"]["format"] == "pt");
  std::vector<double> found;  // a float fits in it exactly
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    CHECK(tensor["dtype"] == "F32");
    for (std::size_t at = tensor["data_offsets"][0]; at < tensor["data_offsets"][1]; at += 4) {
      float value = 0;
      std::memcpy(&value, bytes.data() + 8 + length + at, sizeof value);
      found.push_back(value);
    }
  }
  CHECK(bytes.size() == 8 + length + 4 * found.size());
  CHECK(found == run.parameters);

  const auto values = scratch.path("values");
  const auto python = run_program(
      {"/usr/bin/python3", DIST_TEST_SOURCES "/tests/examples/read_safetensors.py", path, values});
  INFO(python.out << python.err);
  REQUIRE(python.exit_code == 0);
  const std::string raw = read_text(values);
  REQUIRE(raw.size() == 8 * found.size());
  CHECK(std::memcmp(raw.data(), found.data(), raw.size()) == 0);
}

TEST_CASE("what cannot be resumed is refused in one message") {
  const ScratchDirectory scratch;
  const auto error = [&](int ranks, const std::string& more) {
    const auto done = run_program(train_command(ranks, kRun + more));
    CHECK(done.exit_code == 1);
    return done.err;
  };
  CHECK(contains(error(1, "--resume"), "--resume requires --checkpoint"));
  const auto saving = "--checkpoint " + scratch.path("c");
  train(1, kRun + saving);
  CHECK(contains(error(2, saving), "has checkpoints of an earlier job, the newest is step-000040"));
  CHECK(
      contains(error(2, saving + " --resume --seed 2"), "is of a run with seed 1, this one has 2"));
  CHECK(contains(error(2, saving + " --resume --optimizer sgd"),
                 "does not fit this job: the update rule is momentum there and sgd here"));
  CHECK(contains(error(1, saving + " --resume --precision f64"), "elements are f32 there and f64"));
  const auto replay = run_program(
      train_command(1, "--model small_cnn --backend replay --checkpoint " + scratch.path("d")));
  CHECK(contains(replay.err, "a replay's parameters mean nothing"));
}

}  // namespace dist::test
