// SPDX-License-Identifier: Apache-2.0
// The wiring room: the only place that knows every transport and every strategy by name.
#include "libdist/dist.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "allreduce/device_group.h"
#include "allreduce/device_strategy.h"
#include "allreduce/group.h"
#include "allreduce/strategy.h"
#include "libdist/borrowed_strategy.h"
#include "libdist/local_strategy.h"
#include "libdist/staged_strategy.h"
#include "libdist/transport/mpi.h"
#include "libdist/transport/shm.h"
#include "libdist/transport/tcp.h"
#include "ps/shard.h"
#include "ps/strategy.h"

namespace dist {
namespace {

// With nccl the gradients alone are NCCL's.
std::string choose_transport(const Options& options) {
  if (options.transport != "auto" && options.transport != "nccl") return options.transport;
  if (options.launcher == Launcher::open_mpi && mpi_available()) return "mpi";
  return options.one_host ? "shm" : "tcp";
}

}  // namespace

std::string_view version() { return DIST_VERSION; }

Result<World> World::from_environment(int argc, const char* const* argv) {
  auto options = Options::from_environment(argc, argv);
  DIST_TRY(options);
  return open(*std::move(options));
}

Result<World> World::open(Options options) {
  DIST_TRY(options.validate());
  if (options.transport == "nccl") DIST_TRY(allreduce::nccl_available());
  auto transport = make_transport(options);
  DIST_TRY_BECAUSE(transport, fmt::format("rank {} of {}", options.rank, options.ranks));
  return over(*std::move(transport), std::move(options));
}

Result<std::unique_ptr<Transport>> make_transport(const Options& options) {
  const auto name = choose_transport(options);
  if (name == "shm") return open_shm(options);
  if (name == "tcp") return open_tcp(options);
  if (name == "mpi") return open_mpi(options);
  return Status::invalid_argument(
      fmt::format("transport '{}' is unknown; valid: auto, shm, tcp, mpi, nccl", name));
}

std::vector<std::string_view> strategy_names() { return {"ring", "sync-ps", "async-ps", "none"}; }

namespace {

Result<std::unique_ptr<Strategy>> make_on_arena(std::string_view name, World& world, Arena& arena,
                                                Update update) {
  if (name == "ring" && world.options().elastic) {
    return Status::invalid_argument(
        "ring: an elastic world has no ring, its workers know servers only; choose sync-ps or "
        "async-ps");
  }
  if (name == "ring") return allreduce::make_strategy(world, arena, update);
  if (name == "sync-ps") return ps::make_strategy(ps::Mode::sync, world, arena, update);
  if (name == "async-ps" && world.options().transport == "nccl") {
    return Status::invalid_argument(
        "async-ps: over NCCL every rank waits for every other; choose transport shm, tcp or mpi");
  }
  if (name == "async-ps") {
    return ps::make_strategy(ps::Mode::async, world, arena, update);
  }
  if (name == "none") return make_local_strategy(world, arena, update);
  return Status::invalid_argument(
      fmt::format("strategy '{}' is unknown; valid: {}", name, fmt::join(strategy_names(), ", ")));
}

// By the strategies of the host where a GPU's exchange cannot do it.
Result<std::unique_ptr<Strategy>> make_on_device(std::string_view name, World& world, Arena& arena,
                                                 const Update& update) {
  const MakeOnHost on_host = [&](Arena& mirror) {
    return make_on_arena(name, world, mirror, update);
  };
  if (name == "none") return allreduce::make_device_local_strategy(world, arena, update);
  if (name == "ring" || name == "sync-ps") {
    return allreduce::make_device_strategy(name, world, arena, update, on_host);
  }
  return make_staged_strategy(world, arena, updates_parameters(update.rule), on_host);
}

}  // namespace

Result<std::unique_ptr<Strategy>> make_strategy(std::string_view name, World& world, Arena& arena,
                                                Update update) {
  if (arena.device() != nullptr) return make_on_device(name, world, arena, update);
  if (world.options().transport == "nccl") {
    return Status::invalid_argument(
        "transport nccl carries gradients that lie on a GPU, and this arena is in host memory; "
        "choose auto, shm, tcp or mpi");
  }
  auto made = make_on_arena(name, world, arena, update);
  if (!made.ok() || !borrows(arena)) return made;
  return make_borrowed_strategy(*std::move(made), arena, updates_parameters(update.rule));
}

namespace {

// Of a world in which workers may be lost, or come and go.
Result<std::vector<Rank>> server_ranks(const World& world) {
  const auto roles =
      ps::make_roles(world.ranks(), world.options().servers, world.options().placement);
  DIST_TRY(roles);
  std::vector<Rank> ranks;
  ranks.reserve(static_cast<std::size_t>(roles->servers));
  for (int server = 0; server < roles->servers; ++server) {
    ranks.push_back(roles->server_rank(server));
  }
  return ranks;
}

bool contains(const std::vector<Rank>& ranks, Rank rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

Result<bool> all_serve(const World& world, const std::vector<Rank>& members) {
  const auto servers = server_ranks(world);
  DIST_TRY(servers);
  return !members.empty() && std::all_of(members.begin(), members.end(),
                                         [&](Rank rank) { return contains(*servers, rank); });
}

}  // namespace

Result<std::unique_ptr<Checkpoints>> open_checkpoints(World& world, const Arena& arena,
                                                      std::string_view rule,
                                                      CheckpointOptions options) {
  if (!world.options().members_change()) {
    const auto all = make_group(world);
    DIST_TRY(all);
    return Checkpoints::open(**all, arena, rule, std::move(options));
  }
  auto servers = server_ranks(world);
  DIST_TRY_BECAUSE(servers, "checkpoint");
  if (!contains(*servers, world.rank())) {
    return Checkpoints::follow(arena, rule, std::move(options));
  }
  const auto group = make_group(world, *std::move(servers));
  DIST_TRY(group);
  const Log& log = world.log();
  return Checkpoints::open_at_servers(
      **group, arena, rule, std::move(options),
      [&log](const Status& failure) { log.warning(failure.message()); });
}

Result<std::unique_ptr<Group>> make_group(World& world, std::vector<Rank> members) {
  const auto elastic_members = world.options().elastic ? all_serve(world, members) : true;
  DIST_TRY(elastic_members);
  if (!*elastic_members) {
    return Status::invalid_argument(
        "group: the workers of an elastic world know servers only, and come and go");
  }
  return allreduce::make_group(world, std::move(members), world.options().algorithm);
}

}  // namespace dist
