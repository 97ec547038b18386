// SPDX-License-Identifier: Apache-2.0
// Ranks of one host over shared memory: between processes (a segment in /dev/shm that nobody sees
// once all have attached) or between threads of one process.
#pragma once

#include <memory>
#include <vector>

#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/transport/transport.h"

namespace dist {

/// Connects the processes of the job options.job on this host: rank 0 makes the segment, the others
/// attach to it. Blocks until all ranks have come, at most options.connect_timeout; the error then
/// names the ranks that did not. A single rank needs no segment and connects at once. Errors also
/// when /dev/shm has no room, and when a process of another job or build holds the name.
Result<std::unique_ptr<Transport>> open_shm(const Options& options);

/// Connects `ranks` endpoints inside this process, each to be driven by a thread of its own.
/// Closing one of them is, to the others, the loss of that rank.
std::vector<std::unique_ptr<Transport>> make_shm_group(int ranks);

}  // namespace dist
