// SPDX-License-Identifier: Apache-2.0
// What the strategies promise about values: N workers of batch b train as one process of batch
// N * b; deterministic runs agree to the bit; async with no staleness is sync.
#include <fmt/format.h>

#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

std::string run_of(int batch, const std::string& strategy, const std::string& more = "") {
  return fmt::format(
      "--model small_cnn --backend ref --data learnable --steps 4 --warmup 1 "
      "--learning-rate 0.05 --batch {} --strategy {} {}",
      batch, strategy, more);
}

}  // namespace

TEST_CASE("N workers of batch 4 train as one process of batch 4 N") {
  const std::string f64 = "--precision f64";
  for (const int n : {2, 3, 4}) {
    const auto whole = train(1, run_of(4 * n, "ring", f64)).parameters;
    const auto whole_f32 = train(1, run_of(4 * n, "ring")).parameters;
    const auto single = train(1, run_of(4, "ring", f64)).parameters;
    CHECK_FALSE(close_to(single, whole, 1e-5));  // or the test below would tell nothing
    for (const std::string strategy : {"ring", "sync-ps"}) {
      INFO(strategy << " with " << n << " workers");
      CHECK(close_to(train(n, run_of(4, strategy, f64)).parameters, whole, 1e-12));
      CHECK(close_to(train(n, run_of(4, strategy)).parameters, whole_f32, 1e-5));
    }
  }
}

TEST_CASE("so they do with dedicated servers, which do not train") {
  const auto whole = train(1, run_of(8, "ring", "--precision f64"));
  const auto served = train(4, run_of(4, "sync-ps",
                                      "--precision f64 --placement dedicated "
                                      "--servers 2"));
  CHECK(served.record["workers"] == 2);
  CHECK(served.record["servers"] == 2);
  CHECK(close_to(served.parameters, whole.parameters, 1e-12));
}

TEST_CASE("every optimizer keeps the equality") {
  for (const std::string optimizer : {"sgd", "momentum", "nesterov"}) {
    const std::string more = "--precision f64 --optimizer " + optimizer;
    const auto whole = train(1, run_of(8, "ring", more)).parameters;
    CHECK(close_to(train(2, run_of(4, "ring", more)).parameters, whole, 1e-12));
    CHECK(close_to(train(2, run_of(4, "sync-ps", more)).parameters, whole, 1e-12));
  }
}

TEST_CASE("so do clipping, weight decay of weights alone, and a schedule") {
  for (const std::string optimizer : {"momentum", "lars --dist-algorithm=ring"}) {
    const std::string more =
        "--precision f64 --weight-decay 0.01 --schedule cosine --rate-warmup 2 "
        "--optimizer " +
        optimizer;
    const std::string clipped = more + " --clip-norm 0.5";
    const auto whole = train(1, run_of(8, "ring", clipped)).parameters;
    CHECK_FALSE(close_to(train(1, run_of(8, "ring", more)).parameters, whole, 1e-5));
    CHECK(close_to(train(2, run_of(4, "ring", clipped)).parameters, whole, 1e-12));
    const auto served = train(2, run_of(4, "sync-ps", clipped + " --servers 1"));
    CHECK(close_to(served.parameters, whole, 1e-12));
  }
}

TEST_CASE("deterministic ring, sync-ps and async-ps with staleness 0 agree to the bit") {
  for (const int n : {2, 3, 4}) {
    const auto hash = [&](const std::string& strategy, const std::string& more = "") {
      const auto run = train(n, run_of(4, strategy, "--deterministic " + more));
      CHECK(run.record["replicas_equal"] == true);
      return run.record["parameter_hash"].get<std::string>();
    };
    const std::string ring = hash("ring");
    CHECK(ring.size() == 16);
    CHECK(hash("ring") == ring);
    CHECK(hash("ring", "--transport tcp") == ring);
    CHECK(hash("sync-ps") == ring);
    CHECK(hash("sync-ps", "--transport tcp") == ring);
    CHECK(hash("sync-ps", "--servers 1") == ring);
    CHECK(hash("async-ps", "--staleness 0") == ring);
  }
}

TEST_CASE("another seed gives other parameters") {
  const auto one = train(1, run_of(4, "ring", "--seed 1"));
  const auto two = train(1, run_of(4, "ring", "--seed 2"));
  CHECK(one.record["parameter_hash"] != two.record["parameter_hash"]);
}

TEST_CASE("async-ps applies every gradient once and learns") {
  const auto run =
      train(3,
            "--model small_cnn --backend ref --data learnable --strategy async-ps --batch 8 "
            "--steps 60 --warmup 0 --learning-rate 0.02 --optimizer sgd");
  std::uint64_t applied = 0;
  for (const std::uint64_t count : run.record["staleness"]) applied += count;
  CHECK(applied > 0);
  CHECK(applied % (3 * 60) == 0);  // a push may count once a shard
  CHECK(run.record["loss_last"].get<double>() < 0.8 * run.record["loss_first"].get<double>());
}

}  // namespace dist::test
