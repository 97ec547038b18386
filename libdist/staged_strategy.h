// SPDX-License-Identifier: Apache-2.0
// Any strategy of the host for an arena on a device: gradients come to a mirror of the arena in
// host memory while the backward pass runs, parameters go back while the next forward pass does.
#pragma once

#include <functional>
#include <memory>

#include "libdist/bucket/arena.h"
#include "libdist/status.h"
#include "libdist/strategy.h"
#include "libdist/world.h"

namespace dist {

/// Makes the strategy that works on the mirror; called once.
using MakeOnHost = std::function<Result<std::unique_ptr<Strategy>>(Arena& mirror)>;

/// `arena` is on a device and outlives the strategy, which does its copies on streams of its own:
/// ready(), await() and finish_step() order them against arena.stream(), and await() and
/// finish_step() may return while the device still copies. With `updates` parameters are copied
/// back after each step, otherwise (the rule mean-gradient) gradients. The host's copy takes as
/// much memory as the arena, page-locked where the system allows it. Errors: those of `make`,
/// resource.
Result<std::unique_ptr<Strategy>> make_staged_strategy(World& world, Arena& arena, bool updates,
                                                       const MakeOnHost& make);

}  // namespace dist
