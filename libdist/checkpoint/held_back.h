// SPDX-License-Identifier: Apache-2.0
// Between compression and checkpoints: what a rank has still to send.
#pragma once

#include <cstdint>

#include "libdist/checkpoint/format.h"
#include "libdist/checkpoint/snapshot.h"
#include "libdist/compress/error_feedback.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::checkpoint {

/// The array of what is held back of a worker's gradients; of sums it is kHeldBack itself.
inline std::uint32_t held_back_by(int worker) {
  return kHeldBack + 1 + static_cast<std::uint32_t>(worker);
}

/// Adds a range of the arena, after `steps` steps. Nothing where nothing is held back.
void add_held_back(Snapshot* snapshot, std::uint32_t array, Range range, std::uint64_t steps,
                   const ErrorFeedback& feedback);

/// Fills it again; it stays as it is where the checkpoint has none.
Status load_held_back(const Source& source, std::uint32_t array, Range range,
                      const ErrorFeedback& feedback);

}  // namespace dist::checkpoint
