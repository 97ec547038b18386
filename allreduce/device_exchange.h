// SPDX-License-Identifier: Apache-2.0
// An exchange whose arena lies on a GPU, over the collectives of a DeviceGroup: all of a step is
// enqueued on streams, and no thread waits within one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "allreduce/device_group.h"
#include "allreduce/exchange.h"
#include "libdist/device_updater.h"
#include "libdist/memory/device.h"

namespace dist::allreduce {

/// As ExchangeContext, for an arena on `device`; all of it outlives the exchange.
struct DeviceExchangeContext {
  Progress& progress;
  OperationOrder& order;
  Trace& trace;
  const Options& options;
  Device& device;
  Arena& arena;
  const std::vector<Bucket>& buckets;
  DeviceUpdater& updater;
};

/// Who updates which elements of a bucket.
enum class DevicePlacement : std::uint8_t {
  everywhere,  ///< all ranks all of them, by the sum that all have
  sharded,     ///< each rank its device_chunk(), which then goes to all
  owners,  ///< as a synchronous parameter server: rank s of the first `servers` chunk s of so many
};

struct DeviceExchangeOptions {
  DevicePlacement placement = DevicePlacement::everywhere;
  int servers = 0;    ///< with `owners`; 0: all ranks
  bool ring = false;  ///< with `everywhere`: the ring of allreduce/ring_plan.h by messages, whose
                      ///< sums have the bits of the host's; otherwise NCCL chooses how to sum
};

/// Takes the place of a group that was just made. Collective. What stands in a step's report about
/// contributors and times is that of the last step that is known to be over: nobody waits to learn
/// it. After join(), finish() waits, and tells of its own step.
/// Communication is busy from the first bucket's collective to the last one's end, waits for other
/// ranks included, and exposed from the end of the backward pass on the arena's stream until that
/// stream may go on, the update included.
/// Errors: resource; invalid_argument, where the rule mean-gradient meets a placement that leaves
/// each rank a part.
Result<std::unique_ptr<Exchange>> make_device_exchange(const DeviceExchangeContext& context,
                                                       std::unique_ptr<DeviceGroup> group,
                                                       const DeviceExchangeOptions& options);

}  // namespace dist::allreduce
