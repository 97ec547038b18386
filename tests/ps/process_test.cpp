// SPDX-License-Identifier: Apache-2.0
// The parameter server among processes that mpirun started: every push is applied exactly once.
// [.product]: every policy, placement and number of servers for so many ranks.
#include "tests/ps/oracle_case.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::test;

// One world stays open, since MPI cannot be started twice.
void run_all(const World& world, const std::vector<OracleCase>& cases) {
  for (const auto& chosen : cases) {
    for (const bool in_place : {true, false}) {
      OracleCase here = chosen;
      here.in_place = in_place;
      INFO(here.describe());
      Options options = here.options();
      options.launcher = world.options().launcher;
      options.rank = world.rank();
      options.ranks = world.ranks();
      options.local_ranks = world.options().local_ranks;
      options.one_host = world.options().one_host;
      options.transport = "mpi";
      auto own = World::open(std::move(options)).value();
      REQUIRE_NOTHROW(OracleRun(here, own).run());
    }
  }
}

World open() {
  auto options = Options::from_environment().value();
  options.transport = "mpi";
  return World::open(std::move(options)).value();
}

TEST_CASE("over MPI every push is applied once") {
  const World world = open();
  run_all(world, some_oracle_cases(world.ranks(), 6, 1));
}

TEST_CASE("over MPI, everything that so many ranks can be", "[.product]") {
  const World world = open();
  run_all(world, oracle_cases(world.ranks()));
}

}  // namespace
