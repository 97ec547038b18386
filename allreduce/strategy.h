// SPDX-License-Identifier: Apache-2.0
// The strategy "ring": every rank sums all gradients with the others and updates its own replica.
#pragma once

#include <memory>

#include "libdist/bucket/arena.h"
#include "libdist/strategy.h"
#include "libdist/update.h"
#include "libdist/world.h"

namespace dist::allreduce {

/// Every rank is a worker. The gradients must be overwritten by each backward pass, not accumulated
/// into: after finish_step() the arena's gradients may hold sums over all ranks. Where ranks share
/// one copy of the parameters (Options::share_parameters), nobody writes to them between begin()
/// and end(); from end() on, and after the strategy is gone, every arena has its own again. `arena`
/// and the world behind `world` (which may be moved) must outlive the strategy. Errors:
/// options.algorithm native over a transport that is not MPI, or together with
/// options.deterministic.
Result<std::unique_ptr<Strategy>> make_strategy(World& world, Arena& arena, Update update);

}  // namespace dist::allreduce
