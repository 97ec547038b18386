// SPDX-License-Identifier: Apache-2.0
// Ranks of several hosts meet at a port of rank 0: each tells where it listens, and all get the
// table when the last has come.
#pragma once

#include <memory>
#include <string>

#include "libdist/transport/rendezvous.h"

namespace dist {

/// `where` is HOST:PORT. Blocks until all ranks have come or the deadline has passed.
Result<std::unique_ptr<Rendezvous>> meet_at_rank_zero(const Options& options,
                                                      const std::string& where,
                                                      const tcp::Endpoint& own, TimePoint deadline);

}  // namespace dist
