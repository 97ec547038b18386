// SPDX-License-Identifier: Apache-2.0
// Ranks over MPI (Open MPI 4.1), as mpirun starts them. No mpi.h here: mpi_off.cpp stands in where
// the build has no MPI.
#pragma once

#include <memory>

#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/transport/transport.h"

namespace dist {

/// Whether this build can speak MPI.
bool mpi_available();

/// Joins MPI_COMM_WORLD through a communicator of our own. Collective: every rank of the world
/// calls it. options.rank and options.ranks must agree with MPI's. Initialises MPI (with
/// MPI_THREAD_SERIALIZED) unless the program has; what this function initialised is finalised when
/// the last transport made by it closes cleanly, and MPI cannot be initialised again in that
/// process afterwards. A program that wants several worlds one after the other calls
/// MPI_Init_thread itself.
///
/// After open, all MPI calls come from the thread that drives the transport. The loss of a rank
/// cannot be survived over MPI: mpirun ends the whole job. After a failed operation close() makes
/// no collective call and leaves MPI unfinalised, so that it cannot hang.
Result<std::unique_ptr<Transport>> open_mpi(const Options& options);

}  // namespace dist
