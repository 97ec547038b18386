// SPDX-License-Identifier: Apache-2.0
// Linked in place of mpi.cpp where the build has no MPI.
#include "libdist/transport/mpi.h"
#include "libdist/transport/mpi_comm.h"

namespace dist {

bool mpi_available() { return false; }

Result<std::unique_ptr<Transport>> open_mpi(const Options&) {
  return Status::unavailable(
      "transport mpi is not in this build: install libopenmpi-dev and configure with "
      "-DDIST_WITH_MPI=ON, or choose shm or tcp");
}

void* mpi_communicator(Transport&) { return nullptr; }

}  // namespace dist
