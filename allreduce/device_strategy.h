// SPDX-License-Identifier: Apache-2.0
// The strategies ring, sync-ps and none for an arena on a device.
#pragma once

#include <memory>
#include <string_view>

#include "libdist/bucket/arena.h"
#include "libdist/staged_strategy.h"
#include "libdist/status.h"
#include "libdist/strategy.h"
#include "libdist/update.h"
#include "libdist/world.h"

namespace dist::allreduce {

/// `strategy` is ring or sync-ps. In begin() all ranks choose one of the paths of device_path.h;
/// where a path that `auto` chose turns out to be impossible (ranks that share a GPU, memory that
/// another process cannot reach), they take the staged one together. `on_host` makes the strategy
/// of the same name for that; it is called at once. Errors: as that one's, and those of
/// choose_device_path() in begin().
Result<std::unique_ptr<Strategy>> make_device_strategy(std::string_view strategy, World& world,
                                                       Arena& arena, Update update,
                                                       const MakeOnHost& on_host);

/// Every rank trains for itself, on its device alone.
Result<std::unique_ptr<Strategy>> make_device_local_strategy(World& world, Arena& arena,
                                                             Update update);

}  // namespace dist::allreduce
