// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/report.h"

#include "tests/support/catch.h"

using namespace dist::bench;
using dist::test::Approx;

namespace {

Measurement measured(const std::string& library, double us, bool tuned = false,
                     std::uint64_t bytes = 4096) {
  Measurement m;
  m.spec.library = library;
  m.spec.algorithm = library == "limit" ? "sweep" : library == "libdist" ? "auto" : "default";
  m.spec.contest = "shm";
  m.spec.transport = "shm";
  m.spec.buffers = library == "libdist" ? "shared" : "private";
  m.spec.tuned = tuned;
  m.bytes = bytes;
  m.time_us_median = us;
  m.time_us_min = us / 2;
  m.calls = 10;
  m.correct = true;
  return m;
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("times have three digits") {
  REQUIRE(time_text(1.046) == "1.05 us");
  REQUIRE(time_text(23.44) == "23.4 us");
  REQUIRE(time_text(303.2) == "303 us");
  REQUIRE(time_text(999.6) == "1.00 ms");
  REQUIRE(time_text(8800) == "8.80 ms");
  REQUIRE(time_text(1.2e6) == "1.20 s");
}

TEST_CASE("ratios are against the fastest default and the fastest tuned peer") {
  const auto all =
      compare({measured("libdist", 2), measured("openmpi", 10), measured("mpich", 8),
               measured("openmpi", 5, true), measured("mpich", 6, true), measured("limit", 1)});
  REQUIRE(all.size() == 1);
  REQUIRE(*all[0].of_default() == Approx(0.25));
  REQUIRE(*all[0].of_tuned() == Approx(0.4));
  REQUIRE(*all[0].limit_reached() == Approx(0.5));
  REQUIRE(all[0].best_default->spec.name() == "mpich");
  const std::string table = ratio_table(all);
  REQUIRE(contains(table, "| shm, 2 ranks, 4 KiB | libdist, shared 2.00 us | mpich 8.00 us"));
  REQUIRE(contains(table, "| 0.25x | openmpi tuned 5.00 us | 0.40x | 1.00 us | 0.50"));
}

TEST_CASE("only what was measured beside it is compared") {
  auto other_size = measured("openmpi", 1, false, 8192);
  auto other_ranks = measured("openmpi", 1);
  other_ranks.spec.ranks = 4;
  auto other_mode = measured("openmpi", 1);
  other_mode.touched = true;
  auto other_contest = measured("openmpi", 1);
  other_contest.spec.contest = "tcp";
  auto wrong = measured("openmpi", 1);
  wrong.correct = false;
  auto failed = measured("openmpi", 0);
  failed.failure = "gone";
  auto copy = measured("limit", 1);
  copy.spec.algorithm = "memcpy";
  const auto all = compare({measured("libdist", 2), other_size, other_ranks, other_mode,
                            other_contest, wrong, failed, copy});
  REQUIRE(all.size() == 1);
  REQUIRE_FALSE(all[0].of_default().has_value());
  REQUIRE_FALSE(all[0].of_tuned().has_value());
  REQUIRE_FALSE(all[0].limit_reached().has_value());
}

TEST_CASE("over a wire the limit is the share that each rank must send") {
  auto ours = measured("libdist", 200);
  ours.spec.ranks = 4;
  auto stream = measured("limit", 200);  // and 100 at least
  stream.spec.ranks = 4;
  stream.spec.algorithm = "stream";
  const auto all = compare({ours, stream});
  REQUIRE(all[0].limit->time_us_median == Approx(150));
  REQUIRE(*all[0].limit_reached() == Approx(0.75));
}

TEST_CASE("a wrong libdist is not compared at all") {
  auto ours = measured("libdist", 2);
  ours.correct = false;
  REQUIRE(compare({ours, measured("openmpi", 10)}).empty());
}

TEST_CASE("the table has a row a contestant and a column a size, failures below") {
  auto failed = measured("mpich", 0, false, 8192);
  failed.failure = "mpich: gone";
  const std::string text = time_tables(
      {measured("libdist", 2), measured("libdist", 3, false, 8192), measured("openmpi", 10),
       measured("openmpi", 20, false, 8192), measured("mpich", 8), failed});
  INFO(text);
  REQUIRE(contains(text, "shm, 2 ranks, untouched"));
  REQUIRE(contains(text, "|   4 KiB |   8 KiB |"));
  REQUIRE(contains(text, "| libdist, shared       | 2.00 us | 3.00 us |"));
  REQUIRE(contains(text, "| mpich                 | 8.00 us |  failed |"));
  REQUIRE(contains(text, "mpich, 8 KiB: mpich: gone"));
}

TEST_CASE("a record holds the fields that the project's issue names") {
  const auto record = to_record(measured("openmpi", 8, true), {{"machine", "here"}});
  for (const char* key : {"record", "library", "algorithm", "transport", "ranks", "bytes",
                          "time_us_median", "time_us_min", "algorithm_bandwidth", "bus_bandwidth",
                          "correct", "touched", "buffers", "tuned", "provenance"}) {
    INFO(key);
    REQUIRE(record.contains(key));
  }
  REQUIRE(record["record"] == "all_reduce");
  REQUIRE(record["bus_bandwidth"].get<double>() == Approx(4096 / 8e-6));
}

TEST_CASE("a failure is a record of its own") {
  auto failed = measured("mpich", 0);
  failed.failure = "gone";
  const auto record = to_record(failed, {});
  REQUIRE(record["record"] == "failure");
  REQUIRE(record["reason"] == "gone");
  REQUIRE_FALSE(record.contains("time_us_median"));
}
