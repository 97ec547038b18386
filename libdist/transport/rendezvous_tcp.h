// SPDX-License-Identifier: Apache-2.0
// Ranks of several hosts meet at a port of rank 0: each tells where it listens, and all get the
// table when the last has come. Where ranks come and go there is no such moment: every server has a
// port that all know beforehand.
#pragma once

#include <memory>
#include <string>

#include "libdist/transport/rendezvous.h"

namespace dist {

/// `where` is HOST:PORT. Blocks until all ranks have come or the deadline has passed.
Result<std::unique_ptr<Rendezvous>> meet_at_rank_zero(const Options& options,
                                                      const std::string& where,
                                                      const tcp::Endpoint& own, TimePoint deadline);

/// An elastic world: `where` is HOST:PORT,HOST:PORT,... of the servers, in their order, each the
/// place where that server listens. Returns at once.
Result<std::unique_ptr<Rendezvous>> meet_at_servers(const Options& options,
                                                    const std::string& where,
                                                    const tcp::Endpoint& own, TimePoint deadline);

/// The port of that list at which this rank listens; 0 for a worker.
Result<std::uint16_t> own_port(const Options& options, const std::string& where);

}  // namespace dist
