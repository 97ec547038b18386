// SPDX-License-Identifier: Apache-2.0
// The door through which allreduce/native_mpi.cpp reaches the communicator; not installed.
#pragma once

#include "libdist/transport/transport.h"

namespace dist {

/// The MPI_Comm* of a transport made by open_mpi, to be used only from the thread that drives it
/// and not after close(); nullptr for every other transport.
void* mpi_communicator(Transport& transport);

}  // namespace dist
