// SPDX-License-Identifier: Apache-2.0
// The strategy "none": every rank trains for itself. The ideal that the others are measured
// against.
#pragma once

#include <memory>

#include "libdist/bucket/arena.h"
#include "libdist/strategy.h"
#include "libdist/update.h"
#include "libdist/world.h"

namespace dist {

/// Update only, no exchange: each rank is worker 0 of 1 and never waits for another. `arena` and
/// what `world` gives access to must outlive the strategy.
Result<std::unique_ptr<Strategy>> make_local_strategy(World& world, Arena& arena, Update update);

}  // namespace dist
