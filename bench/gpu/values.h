// SPDX-License-Identifier: Apache-2.0
// Whether a record is what its run asked for, and whether runs agree. Pure.
#pragma once

#include <vector>

#include "bench/gpu/outcome.h"
#include "libdist/status.h"

namespace dist::bench::gpu {

/// Of an ok run: same model, precision, batch and ranks as asked for, a rate above 0, finite
/// losses; with several ranks of ring or sync-ps equal replicas. Of ring over shm: the
/// ranks reached each other's memory on the GPU (a sweep); all else over shm and tcp is staged
/// through the host.
Status check_record(const Run& run, const nlohmann::json& record);

/// The last losses of ring and sync-ps at the same number of ranks, by whatever transport, lie
/// within 1 % of each other: they sum the same gradients. The message names two that do not.
Status check_agreement(const std::vector<Outcome>& outcomes);

/// The last losses of section curves, each precision's against the host's in f32: at most 2 % of it
/// apart. Nothing to say where the host's is missing. The message names the first that is not.
Status check_curves(const std::vector<Outcome>& outcomes);

}  // namespace dist::bench::gpu
