// SPDX-License-Identifier: Apache-2.0
// What is special to MPI, on two ranks under mpirun. The cases run in the order in which they stand
// here, on both ranks.
#include "libdist/transport/mpi.h"

#include "libdist/transport/mpi_comm.h"
#include "tests/contract/traffic.h"
#include "tests/contract/transport_contract.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

Options two_ranks() {
  auto options = Options::from_environment();
  REQUIRE_OK(options);
  REQUIRE(options->launcher == Launcher::open_mpi);
  REQUIRE(options->ranks == 2);
  return *options;
}

}  // namespace

// One case: MPI can be opened only once in a process.
TEST_CASE("two ranks over MPI") {
  const auto options = two_ranks();
  auto opened = open_mpi(options);
  REQUIRE_OK(opened);
  auto second = open_mpi(options);
  REQUIRE_OK(second);
  Transport& transport = **opened;
  REQUIRE(mpi_communicator(transport) != nullptr);
  REQUIRE(mpi_communicator(transport) != mpi_communicator(**second));

  // Messages of one transport do not reach the other.
  const Rank other = 1 - transport.rank();
  std::uint32_t out = 1, out_second = 2, in = 0, in_second = 0;
  const Operation sending = (*second)->send(other, Channel::control, bytes_of(out_second));
  REQUIRE_OK(
      transport.exchange(other, bytes_of(out), other, bytes_of(in), Channel::control, soon()));
  REQUIRE_OK(
      (*second)->wait((*second)->receive(other, Channel::control, bytes_of(in_second)), soon()));
  REQUIRE_OK((*second)->wait(sending, soon()));
  REQUIRE(in == 1);
  REQUIRE(in_second == 2);

  // Another size is a protocol error of the receiver, and no more than that.
  for (const std::size_t wrong_bytes : {99, 101}) {
    const auto message = pattern(100, 1);
    std::vector<std::byte> memory(wrong_bytes);
    const Operation leaving = transport.send(other, Channel::collective, message);
    const auto status =
        transport.wait(transport.receive(other, Channel::collective, memory), soon());
    INFO(status.message());
    REQUIRE(status.code() == ErrorCode::protocol);
    REQUIRE(status.message().find("rank " + std::to_string(other)) != std::string::npos);
    REQUIRE_OK(transport.wait(leaving, soon()));
  }
  REQUIRE_NOTHROW(meet(transport));
  opened->reset();
  REQUIRE_NOTHROW(meet(**second));
  second->reset();

  const auto late = open_mpi(options);
  REQUIRE(late.status().code() == ErrorCode::unavailable);
  REQUIRE(late.status().message().find("finalised") != std::string::npos);
}

}  // namespace dist::test
