// SPDX-License-Identifier: Apache-2.0
// What the link could do: the same bytes by plain sockets, nothing else.
#pragma once

#include <cstdint>

#include "libdist/group.h"
#include "libdist/status.h"

namespace dist::bench {

/// Collective among all ranks of `group` on one host: every rank below the last sends `bytes` over
/// loopback TCP to the last one, which then sends as much back to each; `rounds` times after one
/// that does not count. Bytes moved a second, both ways and all ranks together, by the median
/// round; the same on every rank. 0 where there is only one rank.
Result<double> loopback_limit(Group& group, std::uint64_t bytes, int rounds);

}  // namespace dist::bench
