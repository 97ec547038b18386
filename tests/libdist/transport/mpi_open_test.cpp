// SPDX-License-Identifier: Apache-2.0
// The door to MPI without mpirun, with and without MPI in the build.
#include "libdist/transport/mpi.h"

#include "libdist/transport/mpi_comm.h"
#include "libdist/transport/shm.h"
#include "tests/support/catch.h"

namespace dist {

TEST_CASE("several ranks that mpirun did not start are told what to do") {
  Options options;
  options.ranks = 4;
  options.launcher = Launcher::distrun;
  const auto opened = open_mpi(options);
  REQUIRE_FALSE(opened.ok());
  INFO(opened.status().message());
  if (mpi_available()) {
    REQUIRE(opened.status().code() == ErrorCode::invalid_argument);
    REQUIRE(opened.status().message().find("mpirun -n 4") != std::string::npos);
  } else {
    REQUIRE(opened.status().code() == ErrorCode::unavailable);
    REQUIRE(opened.status().message().find("libopenmpi-dev") != std::string::npos);
  }
}

TEST_CASE("another transport has no MPI communicator") {
  REQUIRE(mpi_communicator(*make_shm_group(1).front()) == nullptr);
}

}  // namespace dist
