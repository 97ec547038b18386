// SPDX-License-Identifier: Apache-2.0
// The program tune itself: a tiny run over every transport of one host writes a table that the
// library reads; bad arguments are refused.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "allreduce/choice.h"
#include "tests/support/catch.h"

namespace {

int run(const std::string& command) {
  const int status = std::system((command + " >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const std::string kTune = DIST_TUNE;
const std::string kDistrun = DIST_DISTRUN;

TEST_CASE("a run writes a table that can be read, and says for which ranks") {
  for (const std::string transport : {"shm", "tcp"}) {
    const auto path =
        std::filesystem::temp_directory_path() / ("tune-test-" + std::to_string(getpid()) + ".txt");
    REQUIRE(run(kDistrun + " -n 3 -- " + kTune +
                " --bytes 64,4096 --rounds 2 --turn-ms 0.1 --out " + path.string() +
                " --dist-transport=" + transport) == 0);
    const auto table = dist::allreduce::read_choice_table(path.string());
    std::filesystem::remove(path);
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
