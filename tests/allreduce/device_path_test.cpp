// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_path.h"

#include <functional>
#include <string>

#include "libdist/memory/device.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::allreduce;

const DeviceFacts kEverything{};
const DeviceFacts kNoNccl{.no_nccl = "not in this build"};
const DeviceFacts kSeveralHosts{.one_host = false, .no_nccl = "not in this build"};

Options with(const std::function<void(Options&)>& change = {}) {
  Options options;
  options.ranks = 4;
  if (change) change(options);
  return options;
}

DevicePath path(std::string_view strategy, const Options& options, const DeviceFacts& facts) {
  return choose_device_path(strategy, options, facts).value();
}

void require_refused(std::string_view strategy, const Options& options, const DeviceFacts& facts,
                     ErrorCode code, const std::string& words) {
  const auto refused = choose_device_path(strategy, options, facts).status();
  INFO(refused.message());
  CHECK(refused.code() == code);
  CHECK(refused.message().find(words) != std::string::npos);
}

TEST_CASE("auto takes nccl, else the arenas of one host, else the host") {
  CHECK(path("ring", with(), kEverything) == DevicePath::nccl);
  CHECK(path("sync-ps", with(), kEverything) == DevicePath::nccl);
  CHECK(path("async-ps", with(), kEverything) == DevicePath::staged);
  CHECK(path("ring", with(), kNoNccl) == DevicePath::sweep);
  CHECK(path("sync-ps", with(), kNoNccl) == DevicePath::staged);
  CHECK(path("ring", with(), kSeveralHosts) == DevicePath::staged);
  const DeviceFacts hosts_with_nccl{.one_host = false};
  CHECK(path("ring", with(), hosts_with_nccl) == DevicePath::nccl);
}

TEST_CASE("one rank updates where it is") {
  const auto alone = with([](Options& o) { o.ranks = 1; });
  for (const std::string strategy : {"ring", "sync-ps"}) {
    CHECK(path(strategy, alone, kEverything) == DevicePath::alone);
    CHECK(path(strategy, alone, kNoNccl) == DevicePath::alone);
  }
  CHECK(path("async-ps", alone, kEverything) == DevicePath::staged);
}

TEST_CASE("a transport that was chosen carries the gradients") {
  for (const std::string transport : {"shm", "tcp", "mpi"}) {
    const auto chosen = with([&](Options& o) { o.transport = transport; });
    INFO(transport);
    CHECK(path("ring", chosen, kEverything) ==
          (transport == "tcp" ? DevicePath::staged : DevicePath::sweep));
    CHECK(path("sync-ps", chosen, kEverything) == DevicePath::staged);
  }
}

TEST_CASE("what only the host can do goes over the host") {
  const auto staged = [](std::string_view strategy, const std::function<void(Options&)>& change) {
    return path(strategy, with(change), kEverything) == DevicePath::staged;
  };
  CHECK(staged("ring", [](Options& o) { o.compress = "f16"; }));
  CHECK(staged("ring", [](Options& o) { o.algorithm = "hierarchical"; }));
  CHECK(staged("sync-ps", [](Options& o) { o.placement = Placement::dedicated; }));
  CHECK(staged("sync-ps", [](Options& o) { o.servers = 1; }));
  CHECK(staged("sync-ps", [](Options& o) { o.backup_workers = 1; }));
  CHECK(staged("sync-ps", [](Options& o) { o.compress_pull = "f16"; }));
  CHECK_FALSE(staged("sync-ps", [](Options& o) { o.servers = 4; }));
}

TEST_CASE("the sweep ends where a kernel's sources do, and where messages are wanted") {
  const auto most = static_cast<int>(kMostDeviceSources);
  CHECK(path("ring", with([&](Options& o) { o.ranks = most; }), kNoNccl) == DevicePath::sweep);
  CHECK(path("ring", with([&](Options& o) { o.ranks = most + 1; }), kNoNccl) == DevicePath::staged);
  CHECK(path("ring", with([](Options& o) { o.algorithm = "ring"; }), kNoNccl) ==
        DevicePath::staged);
  CHECK(path("ring", with([](Options& o) { o.shard_optimizer = true; }), kNoNccl) ==
        DevicePath::staged);
  CHECK(path("ring", with([](Options& o) { o.ranks_per_host = 2; }), kNoNccl) ==
        DevicePath::staged);
  const auto demanded = with([](Options& o) { o.algorithm = "sweep"; });
  CHECK(path("ring", demanded, kEverything) == DevicePath::sweep);
  require_refused("ring", demanded, kSeveralHosts, ErrorCode::unavailable,
                  "at most 16 ranks of one host, and there are 4 on several");
}

TEST_CASE("transport nccl is taken at its word") {
  const auto nccl = [](const std::function<void(Options&)>& change = {}) {
    return with([&](Options& o) {
      o.transport = "nccl";
      if (change) change(o);
    });
  };
  CHECK(path("ring", nccl(), kEverything) == DevicePath::nccl);
  CHECK(path("sync-ps", nccl(), kEverything) == DevicePath::nccl);
  CHECK(path("ring", nccl([](Options& o) { o.ranks = 1; }), kEverything) == DevicePath::nccl);
  require_refused("async-ps", nccl(), kEverything, ErrorCode::invalid_argument,
                  "choose shm, tcp or mpi");
  require_refused("ring", nccl(), kNoNccl, ErrorCode::unavailable, "not in this build");
  require_refused("ring", nccl([](Options& o) { o.algorithm = "sweep"; }), kEverything,
                  ErrorCode::invalid_argument, "auto, ring and native, not sweep");
  require_refused("ring", nccl([](Options& o) { o.compress = "f16"; }), kEverything,
                  ErrorCode::invalid_argument, "ring: compress needs");
}

}  // namespace
