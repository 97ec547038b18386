// SPDX-License-Identifier: Apache-2.0
// The parameter-server strategies: gradients are pushed to servers, which update the parameters
// they own; workers pull them back. See ps/README.md.
#pragma once

#include <memory>

#include "libdist/bucket/arena.h"
#include "libdist/status.h"
#include "libdist/strategy.h"
#include "libdist/update.h"
#include "libdist/world.h"
#include "ps/policy.h"

namespace dist::ps {

/// The strategy of this rank, by options.servers, placement and staleness: a worker, a server, or
/// both. `world` and `arena` must outlive it; every rank calls it in the same order with the same
/// layout, rule and options. One such strategy at a time in a world. Errors: more servers than fit,
/// out of memory.
Result<std::unique_ptr<Strategy>> make_strategy(Mode mode, World& world, Arena& arena,
                                                Update update);

}  // namespace dist::ps
