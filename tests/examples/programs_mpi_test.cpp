// SPDX-License-Identifier: Apache-2.0
// The same programs under mpirun: the same lines, the same parameters, the same end when a rank is
// killed.
#include <csignal>

#include "tests/examples/hello_lines.h"
#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

const std::string kRun =
    "--model small_cnn --backend ref --data learnable --batch 4 --steps 4 --warmup 1 "
    "--deterministic ";

}  // namespace

TEST_CASE("the hello programs print the same under mpirun") {
  const auto sums = run_program(with_mpirun(3, built("hello_all_reduce")));
  INFO(sums.err);
  CHECK(sums.exit_code == 0);
  CHECK(sorted_lines(sums.out) == kAllReduceLines);
  const auto served = run_program(with_mpirun(3, built("hello_parameter_server")));
  INFO(served.err);
  CHECK(served.exit_code == 0);
  CHECK(sync_lines(served.out) == kSyncLines);
  CHECK(count_lines(served.out, "async-ps rank") == 6);
}

TEST_CASE("mpirun and distrun give the same parameters, over every transport") {
  for (const std::string strategy : {"ring", "sync-ps"}) {
    const auto distrun = train(2, kRun + "--strategy " + strategy);
    const auto mpirun = train(2, kRun + "--strategy " + strategy, StartedBy::mpirun);
    CHECK(mpirun.record["transport"] == "mpi");
    CHECK(mpirun.record["parameter_hash"] == distrun.record["parameter_hash"]);
    for (const std::string transport : {"shm", "tcp"}) {
      const auto other = train(2, kRun + "--strategy " + strategy + " --transport " + transport,
                               StartedBy::mpirun);
      CHECK(other.record["transport"] == transport);
      CHECK(other.record["parameter_hash"] == distrun.record["parameter_hash"]);
    }
  }
}

TEST_CASE("async-ps trains under mpirun, with dedicated servers too") {
  const std::string run =
      "--model small_cnn --backend ref --batch 4 --steps 6 --strategy async-ps ";
  CHECK(train(3, run, StartedBy::mpirun).record["workers"] == 3);
  CHECK(train(3, run + "--placement dedicated", StartedBy::mpirun).record["workers"] == 2);
}

TEST_CASE("a wrong model under mpirun: one message, exit code 1") {
  const auto done = run_program(train_command(2, "--model alexnet", StartedBy::mpirun));
  INFO(done.err);
  CHECK(done.exit_code == 1);
  CHECK(count_lines(done.err, "train_cnn: error: unknown model 'alexnet'") == 1);
}

TEST_CASE("a rank killed under mpirun ends the job within 5 s, and mpirun names it") {
  Program job(train_command(
      3, "--model small_cnn --backend ref --batch 4 --steps 1000000 --progress --strategy ring",
      StartedBy::mpirun));
  job.wait_for("step     8/");
  const auto ranks = children_of(job.pid(), "train_cnn");
  REQUIRE(ranks.size() == 3);
  ::kill(ranks[1], SIGKILL);
  const auto done = job.wait(5);
  INFO(done.out << done.err);
  CHECK(done.exit_code != 0);
  CHECK((done.out + done.err).find("rank 1") != std::string::npos);
  CHECK(all_gone(ranks, 5));  // mpirun does not wait for those that it kills
}

// MPI itself ends all ranks when one dies; what was complete on disk stays so.
TEST_CASE("parameter servers killed under mpirun leave their checkpoint whole") {
  const std::string run =
      "--model small_cnn --backend ref --data learnable --batch 4 --steps 38 "
      "--warmup 2 --deterministic --strategy sync-ps ";
  const auto undisturbed = train(3, run, StartedBy::mpirun);
  const ScratchDirectory scratch;
  const auto saving = run + "--checkpoint " + scratch.path("c") + " ";
  {
    Program job(train_command(3, saving + "--checkpoint-every 5 --progress", StartedBy::mpirun));
    job.wait_for("step    20/");
    const auto ranks = children_of(job.pid(), "train_cnn");
    REQUIRE(ranks.size() == 3);
    ::kill(ranks[1], SIGKILL);
    const auto done = job.wait(5);
    CHECK(done.exit_code != 0);
    // One may be writing.
    CHECK(all_gone(ranks, 5));
  }
  const auto resumed = train(3, saving + "--resume", StartedBy::mpirun);
  CHECK(resumed.process.out.find("resumed at step ") != std::string::npos);
  CHECK(resumed.record["parameter_hash"] == undisturbed.record["parameter_hash"]);
}

}  // namespace dist::test
