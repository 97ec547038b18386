// SPDX-License-Identifier: Apache-2.0
// Between an updater and checkpoints: what every strategy does with the ranges it owns.
#pragma once

#include <cstdint>
#include <span>

#include "libdist/checkpoint/snapshot.h"
#include "libdist/status.h"
#include "libdist/types.h"
#include "libdist/update.h"

namespace dist::checkpoint {

/// Adds a range of the arena: its `parameters`, and its state, which begins at `first` in the
/// updater.
void add_range(Snapshot* snapshot, Range range, std::uint64_t version,
               std::span<const std::byte> parameters, const Updater& updater, std::uint64_t first);

/// Fills the state of a range of the arena, which begins at `first` in the updater.
Status load_state(const Source& source, Range range, Updater* updater, std::uint64_t first);

}  // namespace dist::checkpoint
