// SPDX-License-Identifier: Apache-2.0
// Which way gradients on GPUs take to the other ranks. Pure: all ranks have the same facts and so
// choose alike.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "libdist/options.h"
#include "libdist/status.h"

namespace dist::allreduce {

enum class DevicePath : std::uint8_t {
  alone,   ///< one rank updates by its own gradients
  nccl,    ///< collectives on the GPUs' streams
  sweep,   ///< the ranks of a host sum and update in each other's arenas
  staged,  ///< over the host, by the strategy of the same name there
};

/// What all ranks know of each other.
struct DeviceFacts {
  bool one_host = true;
  /// Empty where every rank has NCCL in its build and a GPU for each rank of its host; else why
  /// not.
  std::string no_nccl{};
};

/// Why the strategy cannot be an exchange between GPUs at all, or ok: what only the host can do.
Status needs_host(std::string_view strategy, const Options& options);

/// The first of these that the options allow. Errors: transport nccl or algorithm
/// sweep where it is not possible, with what to choose instead.
Result<DevicePath> choose_device_path(std::string_view strategy, const Options& options,
                                      const DeviceFacts& facts);

}  // namespace dist::allreduce
