// SPDX-License-Identifier: Apache-2.0
// The GPU that is checked, and what its numbers come from.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "libdist/memory/device.h"
#include "libdist/status.h"

namespace dist::bench::gpu {

struct FoundDevice {
  std::string name;
  double memory_gib = 0;                                 ///< 0: unknown
  double copy_gb_per_s = 0;                              ///< 0: not measured
  nlohmann::json provenance = nlohmann::json::object();  ///< device, driver, versions
};

/// The first GPU that this process may use. Error: unavailable, with the reason.
Result<FoundDevice> find_device();

/// Versions of the CUDA Toolkit, cuDNN and NCCL that this build was made with; null where it was
/// made without.
nlohmann::json built_with();

/// What `nvidia-smi
/// --query-gpu=driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.mem
/// --format=csv,noheader,nounits` printed, as fields with units. Pure; an empty object where the
/// line is not of that form.
nlohmann::json parse_smi(const std::string& line);

/// Bytes a second that a copy of `bytes` within the device's memory reads and writes, over
/// `rounds` of them: 2 x bytes x rounds / seconds.
Result<double> copy_bandwidth(Device& device, Bytes bytes, int rounds);

}  // namespace dist::bench::gpu
