// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_path.h"

#include <fmt/format.h>

#include "libdist/memory/device.h"

namespace dist::allreduce {
namespace {

bool among_gpus(const std::string& algorithm) {
  return algorithm == "auto" || algorithm == "ring" || algorithm == "native";
}

// As on the host: a rank that wants tcp within a host, or pretends hosts, wants messages.
bool may_sweep(std::string_view strategy, const Options& options) {
  if (options.ranks > static_cast<int>(kMostDeviceSources)) return false;
  return strategy == "ring" && options.algorithm == "auto" && !options.shard_optimizer &&
         options.transport != "tcp" && options.ranks_per_host == 0;
}

Status no_sweep(const Options& options, const DeviceFacts& facts) {
  return Status::unavailable(fmt::format(
      "algorithm sweep is for at most {} ranks of one host, and there are {} on {}; choose "
      "algorithm auto",
      kMostDeviceSources, options.ranks, facts.one_host ? "one" : "several"));
}

}  // namespace

Status needs_host(std::string_view strategy, const Options& options) {
  const auto only_host = [&](std::string_view what) {
    return Status::invalid_argument(
        fmt::format("{}: {} needs gradients that go over the host, not transport nccl; choose shm, "
                    "tcp or mpi",
                    strategy, what));
  };
  if (strategy == "async-ps") return only_host("a server that applies each gradient by itself");
  if (options.compress != "none") return only_host("compress");
  if (options.algorithm == "hierarchical") return only_host("algorithm hierarchical");
  if (strategy != "sync-ps") return {};
  if (options.placement == Placement::dedicated) return only_host("placement dedicated");
  if (options.servers != 0 && options.servers != options.ranks) {
    return only_host("another number of servers than ranks");
  }
  if (options.backup_workers > 0) return only_host("backup-workers");
  if (options.compress_pull != "none") return only_host("compress-pull");
  return {};
}

Result<DevicePath> choose_device_path(std::string_view strategy, const Options& options,
                                      const DeviceFacts& facts) {
  const bool demanded = options.transport == "nccl";
  const Status only_host = needs_host(strategy, options);
  if (demanded) DIST_TRY(only_host);
  if (demanded && !facts.no_nccl.empty()) {
    return Status::unavailable(
        fmt::format("{}: transport nccl: {}; with transport auto gradients go over the host",
                    strategy, facts.no_nccl));
  }
  if (demanded && !among_gpus(options.algorithm)) {
    return Status::invalid_argument(
        fmt::format("{}: transport nccl knows the algorithms auto, ring and native, not {}",
                    strategy, options.algorithm));
  }
  if (demanded) return DevicePath::nccl;
  if (!only_host.ok()) return DevicePath::staged;
  if (options.ranks == 1) return DevicePath::alone;
  if (options.algorithm == "sweep") {
    const bool possible = facts.one_host && options.ranks <= static_cast<int>(kMostDeviceSources);
    if (!possible) return no_sweep(options, facts).because(strategy);
    return strategy == "ring" ? DevicePath::sweep : DevicePath::staged;
  }
  const bool nccl = options.transport == "auto" && facts.no_nccl.empty() && options.ranks > 1;
  if (nccl && among_gpus(options.algorithm)) return DevicePath::nccl;
  if (facts.one_host && may_sweep(strategy, options)) return DevicePath::sweep;
  return DevicePath::staged;
}

}  // namespace dist::allreduce
