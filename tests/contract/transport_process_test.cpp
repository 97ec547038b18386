// SPDX-License-Identifier: Apache-2.0
// The transport contract with ranks as processes, as distrun or mpirun starts them. Its argument is
// the tag of a transport. Cases in which an end closes are left to the tests with threads: MPI can
// be opened only once in a process, and mpirun ends a job that loses a rank.
#include <cstdio>

#include "libdist/dist.h"
#include "libdist/transport/mpi.h"
#include "tests/contract/transport_contract.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

std::unique_ptr<Transport> open(const std::string& name) {
  auto options = Options::from_environment();
  REQUIRE_OK(options);
  options->transport = name;
  auto opened = make_transport(*options);
  REQUIRE_OK(opened);
  REQUIRE((*opened)->name() == name);
  return *std::move(opened);
}

void run_lasting_cases(const std::string& name) {
  const auto transport = open(name);
  for (const TransportCase& one : lasting_transport_cases()) {
    INFO("rank " << transport->rank() << " of " << transport->ranks() << ": " << one.name);
    if (transport->ranks() >= one.least_ranks) REQUIRE_NOTHROW(one.body(*transport));
    REQUIRE_NOTHROW(meet(*transport));
  }
}

}  // namespace

TEST_CASE("ranks as processes over shm", "[shm][.]") { run_lasting_cases("shm"); }

TEST_CASE("ranks as processes over tcp", "[tcp][.]") { run_lasting_cases("tcp"); }

TEST_CASE("ranks as processes over mpi", "[mpi][.]") {
  if (!mpi_available()) skip("this build has no MPI");
  run_lasting_cases("mpi");
}

TEST_CASE("one message of more than 2 GiB over mpi", "[mpi-huge][.]") {
  if (!mpi_available()) skip("this build has no MPI");
  const auto transport = open("mpi");
  REQUIRE_NOTHROW(exchange_huge_messages(*transport));
  REQUIRE_NOTHROW(meet(*transport));
}

}  // namespace dist::test
