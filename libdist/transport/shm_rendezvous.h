// SPDX-License-Identifier: Apache-2.0
// How the processes of one job on one host come to map the same segment, and how nothing of it
// stays behind in /dev/shm.
//
// Rank 0 makes a file without a name, fills it in, and only then gives it the name that follows
// from user and job: what can be opened is complete. The others open it and take their places. When
// all have, rank 0 removes the name and lets them go on. A file whose maker died before that is
// stale: whoever meets it removes it.
#pragma once

#include <memory>
#include <string>

#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/transport/shm_segment.h"

namespace dist {

/// Where the segment of a job stands until all ranks have attached.
std::string segment_path(std::uint64_t job);

/// Blocks until all options.ranks (at least 2) processes have mapped the segment of options.job, at
/// most options.connect_timeout.
Result<std::shared_ptr<ShmSegment>> meet_in_segment(const Options& options);

}  // namespace dist
