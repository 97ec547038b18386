// SPDX-License-Identifier: Apache-2.0
// Connects every rank to every other on every channel: rank i calls all lower ranks and is called
// by all higher ones.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "libdist/options.h"
#include "libdist/transport/rendezvous.h"
#include "libdist/transport/tcp_listener.h"
#include "libdist/transport/transport.h"

namespace dist::tcp {

/// By peer, then by channel; empty for the own rank.
using Links = std::vector<std::array<std::optional<Socket>, kChannels>>;

/// Drives `context` until all connections stand or the deadline has passed; the error names the
/// ranks that are missing and what is known about them.
Result<Links> connect_all(asio::io_context& context, const Options& options, Listener& listener,
                          const Rendezvous& rendezvous, TimePoint deadline);

}  // namespace dist::tcp
