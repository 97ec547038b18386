// SPDX-License-Identifier: Apache-2.0
// Reduce, update and broadcast in the arenas of the ranks of one host on their GPUs, of which
// several may share one.
#pragma once

#include <memory>

#include "allreduce/device_exchange.h"
#include "allreduce/exchange.h"
#include "libdist/host/hosts.h"
#include "libdist/status.h"

namespace dist::allreduce {

/// All ranks are on the one host of `hosts`; a rank alone updates where it is. finish() waits on
/// the host for the GPU's backward pass, the others', and the sums; what it copies last is ordered
/// before later work of arena.stream(). Collective; error `unavailable`, on all ranks alike, where
/// one cannot reach the memory of another.
Result<std::unique_ptr<Exchange>> make_device_sweep_exchange(const DeviceExchangeContext& context,
                                                             const Hosts& hosts);

}  // namespace dist::allreduce
