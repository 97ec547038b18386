// SPDX-License-Identifier: Apache-2.0
// Ranks over TCP, on one host or on several: one authenticated socket for each pair of ranks and
// channel.
#pragma once

#include <memory>

#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/transport/transport.h"

namespace dist {

/// Finds the other ranks through options.rendezvous, connects to all of them and authenticates each
/// connection; returns once every rank is connected to every other, at the latest after
/// options.connect_timeout. All ranks call it, each from its own process or thread. The listening
/// port is open only during this call.
///
/// Errors: invalid_argument (an address that is not loopback without a secret file, a rendezvous
/// that cannot work), resource (a port in use, a private directory that cannot be made), timed_out
/// (names the ranks that did not come), protocol (a peer refused: other job, secret or version).
Result<std::unique_ptr<Transport>> open_tcp(const Options& options);

}  // namespace dist
