// SPDX-License-Identifier: Apache-2.0
// Measured times become rows of a choice table.
#include "bench/tune/rows.h"

#include <vector>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::bench;
using allreduce::Algorithm;
using allreduce::ChoiceTable;

const ChoiceTable kBase = {{"*", 1, 0_B, Algorithm::ring}};

TEST_CASE("a row where the winner changes, the first from 0 bytes on") {
  const std::vector<Timing> timings = {
      {2, 64, Algorithm::ring, 10},        {2, 64, Algorithm::doubling, 5},
      {2, 1024, Algorithm::ring, 11},      {2, 1024, Algorithm::doubling, 6},
      {2, 1 << 20, Algorithm::ring, 1000}, {2, 1 << 20, Algorithm::doubling, 2000},
      {4, 64, Algorithm::tree, 1},         {4, 64, Algorithm::ring, 2}};
  const auto table = table_from(timings, "tcp", kBase);
  REQUIRE(table == ChoiceTable{{"*", 1, 0_B, Algorithm::ring},
                               {"tcp", 2, 0_B, Algorithm::doubling},
                               {"tcp", 2, 1_MiB, Algorithm::ring},
                               {"tcp", 4, 0_B, Algorithm::tree}});
  REQUIRE(choose(table, 3, 2_MiB, "tcp", false) == Algorithm::ring);
  REQUIRE(choose(table, 4, 2_MiB, "tcp", false) == Algorithm::tree);
  REQUIRE(choose(table, 3, 64_B, "shm", false) == Algorithm::ring);
}

TEST_CASE("a change needs a clear lead; the order of the timings does not matter") {
  const std::vector<Timing> timings = {
      {2, 2000, Algorithm::tree, 0.5}, {2, 1000, Algorithm::tree, 0.97},
      {2, 2000, Algorithm::ring, 1},   {2, 1000, Algorithm::ring, 1},
      {2, 10, Algorithm::ring, 1},     {2, 10, Algorithm::tree, 2}};
  REQUIRE(table_from(timings, "mpi", kBase) == ChoiceTable{{"*", 1, 0_B, Algorithm::ring},
                                                           {"mpi", 2, 0_B, Algorithm::ring},
                                                           {"mpi", 2, 2000_B, Algorithm::tree}});
}

TEST_CASE("an algorithm that was not measured at a size gives way") {
  const std::vector<Timing> timings = {{2, 10, Algorithm::tree, 1}, {2, 20, Algorithm::ring, 1}};
  REQUIRE(table_from(timings, "shm", kBase).back() ==
          allreduce::ChoiceRow{"shm", 2, 20_B, Algorithm::ring});
}

TEST_CASE("without timings the base stays") { REQUIRE(table_from({}, "shm", kBase) == kBase); }

}  // namespace
