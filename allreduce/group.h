// SPDX-License-Identifier: Apache-2.0
// Groups whose collectives are plans over the world's transport, and where all members live on one
// host, sweeps over their memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "libdist/group.h"
#include "libdist/world.h"

namespace dist::allreduce {

/// As dist::make_group(), with an algorithm in place of the one in the world's options.
Result<std::unique_ptr<Group>> make_group(World& world, std::vector<Rank> members,
                                          const std::string& algorithm);

}  // namespace dist::allreduce
