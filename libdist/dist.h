// SPDX-License-Identifier: Apache-2.0
// libdist: distributed data-parallel training. The one header a program includes.
//
//   auto world    = dist::World::from_environment(argc, argv).value();
//   auto arena    = dist::Arena::create(parameters).value();        // {name, elements, dtype},
//   backward order auto strategy = dist::make_strategy("ring", world, arena,
//   dist::Momentum{.learning_rate = 0.1}).value(); strategy->begin().value(); // all replicas equal
//   for (...) { forward(); backward([&](size_t p) { strategy->ready(p); });
//   strategy->finish_step().value(); } strategy->end().value();
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/bucket/arrival_order.h"
#include "libdist/checkpoint/checkpoints.h"
#include "libdist/group.h"
#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/strategy.h"
#include "libdist/types.h"
#include "libdist/update.h"
#include "libdist/work.h"
#include "libdist/world.h"

/// Distributed data-parallel training.
namespace dist {

/// Version of the library as text, e.g. "0.1.0".
std::string_view version();

/// "ring", "sync-ps", "async-ps", "none" (every rank trains for itself: the ideal baseline).
std::vector<std::string_view> strategy_names();

/// Makes a strategy by name. `world` and `arena` must outlive it. Every rank calls it with the same
/// name, update, and arena layout, in the same order. An unknown name is an error that lists the
/// valid ones; a strategy the transport cannot carry is an error that names the transports that
/// can. `update` is any rule ("dist::Adam{}"), or one with a schedule and clipping. A world may
/// have several strategies "ring": their ready() calls then come in one order on all ranks, say all
/// of the first before those of the second, and begin() and end() of one between the steps of the
/// others.
Result<std::unique_ptr<Strategy>> make_strategy(std::string_view name, World& world, Arena& arena,
                                                Update update);

/// The collectives among `members`, the ranks of the world that belong to the group, in the order
/// of their numbers in it; none = all ranks. Every member calls it, with the same list, and blocks
/// until all have; other ranks do not. The world (which may be moved) must outlive the group.
/// Errors: a list with a rank that is not there, or without the own; members that were given
/// different lists or options; an algorithm that the transport cannot carry; a bad choice-table;
/// in an elastic world a member that is no parameter server.
Result<std::unique_ptr<Group>> make_group(World& world, std::vector<Rank> members = {});

/// The checkpoints of a world's job: Checkpoints::open() among all ranks; or, where workers may be
/// lost or come and go, among the parameter servers alone, while workers follow. Every rank calls
/// it, before it begins its strategy. See there.
Result<std::unique_ptr<Checkpoints>> open_checkpoints(World& world, const Arena& arena,
                                                      std::string_view rule,
                                                      CheckpointOptions options);

/// Connects the transport that options.transport names. Blocks until all ranks have met.
Result<std::unique_ptr<Transport>> make_transport(const Options& options);

}  // namespace dist
