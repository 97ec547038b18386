// SPDX-License-Identifier: Apache-2.0
// What a GPU could do at most, by its name. Pure.
#pragma once

#include <optional>
#include <string>

namespace dist::bench::gpu {

/// Data sheet values: dense (no sparsity), boost clock. 0: the device has no such mode.
struct Peak {
  const char* device = "";  ///< the row of the table
  double f32_tflops = 0;
  double tf32_tflops = 0;
  double f16_tflops = 0;  ///< f16 and bf16, summed in f32
  double memory_gb_per_s = 0;

  /// FLOP/s; 0 where the device has no such mode.
  double flops(const std::string& precision) const;
};

/// Nothing for a device that is not in the table: then no fraction of a peak is reported.
std::optional<Peak> peak_of(const std::string& device_name);

}  // namespace dist::bench::gpu
