// SPDX-License-Identifier: Apache-2.0
// Connects every rank to every other on every channel: rank i calls all lower ranks and is called
// by all higher ones. In an elastic world only servers are connected to all: workers call them, at
// any time.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "libdist/options.h"
#include "libdist/transport/rendezvous.h"
#include "libdist/transport/tcp_listener.h"
#include "libdist/transport/transport.h"

namespace dist::tcp {

/// By peer, then by channel; empty for the own rank and for those this rank is not connected to.
using Links = std::vector<std::array<std::optional<Socket>, kChannels>>;

/// Drives `context` until all connections stand or the deadline has passed; the error names the
/// ranks that are missing and what is known about them. In an elastic world a server waits for the
/// other servers alone, and its listener stays open.
Result<Links> connect_all(asio::io_context& context, const Options& options, Listener& listener,
                          const Rendezvous& rendezvous, TimePoint deadline);

}  // namespace dist::tcp
