// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/mpi_process.h"

#include <fmt/format.h>
#include <mpi.h>

#include <mutex>

namespace dist {
namespace {

struct MpiProcess {
  std::mutex mutex;
  int users = 0;  // guarded by mutex, like all below
  bool started_here = false;
  bool given_up = false;
};

// MPI is one to a process and cannot be started twice, so this must be one too.
MpiProcess& process() {
  static MpiProcess the_process;
  return the_process;
}

Status start(bool* started_here) {
  int finalised = 0;
  MPI_Finalized(&finalised);
  if (finalised != 0) {
    return Status::unavailable(
        "mpi: MPI has been finalised in this process and cannot start again; keep one World, or "
        "call MPI_Init_thread and MPI_Finalize yourself around all of them");
  }
  int provided = MPI_THREAD_SINGLE;
  *started_here = !MpiUse::initialised();
  const int error = *started_here
                        ? MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided)
                        : MPI_Query_thread(&provided);
  if (error != MPI_SUCCESS)
    return Status::unavailable(fmt::format("mpi: cannot start ({})", error));
  if (provided < MPI_THREAD_SERIALIZED) {
    return Status::unavailable(
        "mpi: MPI was initialised for fewer threads than MPI_THREAD_SERIALIZED; call "
        "MPI_Init_thread with at least that");
  }
  return {};
}

}  // namespace

bool MpiUse::initialised() {
  int initialised = 0;
  MPI_Initialized(&initialised);
  return initialised != 0;
}

Result<std::unique_ptr<MpiUse>> MpiUse::begin() {
  const std::lock_guard lock(process().mutex);
  bool started_here = false;
  DIST_TRY(start(&started_here));
  process().started_here |= started_here;
  ++process().users;
  return std::unique_ptr<MpiUse>(new MpiUse);
}

MpiUse::~MpiUse() {
  const std::lock_guard lock(process().mutex);
  if (--process().users == 0 && process().started_here && !process().given_up) MPI_Finalize();
}

void MpiUse::give_up() {
  const std::lock_guard lock(process().mutex);
  process().given_up = true;
}

}  // namespace dist
