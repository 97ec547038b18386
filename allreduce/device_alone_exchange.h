// SPDX-License-Identifier: Apache-2.0
// One rank updates by its own gradients.
#pragma once

#include <memory>

#include "allreduce/device_exchange.h"
#include "allreduce/exchange.h"
#include "libdist/status.h"

namespace dist::allreduce {

/// Enqueues the update on arena.stream() and never waits. Its time does not stand in the report.
Result<std::unique_ptr<Exchange>> make_device_alone_exchange(const DeviceExchangeContext& context);

}  // namespace dist::allreduce
