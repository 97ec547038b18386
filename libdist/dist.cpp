// SPDX-License-Identifier: Apache-2.0
// The wiring room: the only place that knows every transport and every strategy by name.
#include "libdist/dist.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

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

Result<std::unique_ptr<Group>> make_group(World& world, std::vector<Rank> members) {
  if (world.options().elastic) {
    return Status::invalid_argument(
        "group: the workers of an elastic world know servers only, and come and go");
  }
  return allreduce::make_group(world, std::move(members), world.options().algorithm);
}

}  // namespace dist
