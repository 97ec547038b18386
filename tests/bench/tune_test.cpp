// SPDX-License-Identifier: Apache-2.0
// The program tune itself: a tiny run over every transport of one host writes a table that the
// library reads; bad arguments are refused.
#include <string>

#include "allreduce/choice.h"
#include "tests/bench/program.h"
#include "tests/support/catch.h"

namespace {

using dist::test::run;

const std::string kTune = DIST_TUNE;
const std::string kDistrun = DIST_DISTRUN;

TEST_CASE("a run writes a table that can be read, and says for which ranks") {
  for (const std::string transport : {"shm", "tcp"}) {
    const dist::test::ScratchFolder folder;
    const auto path = folder.path("table.txt");
    REQUIRE(run(kDistrun + " -n 3 -- " + kTune +
                " --bytes 64,4096 --rounds 2 --turn-ms 0.1 --out " + path +
                " --dist-transport=" + transport) == 0);
    const auto table = dist::allreduce::read_choice_table(path);
    REQUIRE_OK(table);
    bool two = false, three = false;
    for (const auto& row : *table) {
      two |= row.transport == transport && row.ranks_at_least == 2;
      three |= row.transport == transport && row.ranks_at_least == 3;
    }
    CHECK(two);
    CHECK(three);
  }
}

TEST_CASE("one rank alone, too many ranks, unknown arguments") {
  CHECK(run(kTune) == 1);
  CHECK(run(kDistrun + " -n 2 -- " + kTune + " --ranks 3") != 0);
  CHECK(run(kTune + " --nonsense") == 1);
  CHECK(run(kTune + " --rounds 0") == 1);
  CHECK(run(kTune + " --help") == 0);
}

}  // namespace
