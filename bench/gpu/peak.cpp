// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/peak.h"

namespace dist::bench::gpu {
namespace {

struct Row {
  const char* part;  // of the name that the driver gives
  Peak peak;
};

// NVIDIA's data sheets. The first row that fits wins, so special names come before general ones.
// Volta's tensor cores know f16 alone.
constexpr Row kRows[] = {
    {"H200", {"H200 SXM", 67, 494, 989, 4800}},
    {"H100 PCIe", {"H100 PCIe", 51, 378, 756, 2000}},
    {"H100 80GB HBM3", {"H100 SXM", 67, 494, 989, 3350}},
    {"A100-SXM4-80GB", {"A100 SXM 80 GB", 19.5, 156, 312, 2039}},
    {"A100 80GB PCIe", {"A100 PCIe 80 GB", 19.5, 156, 312, 1935}},
    {"A100-SXM4-40GB", {"A100 SXM 40 GB", 19.5, 156, 312, 1555}},
    {"A100-PCIE-40GB", {"A100 PCIe 40 GB", 19.5, 156, 312, 1555}},
    {"V100-SXM2", {"V100 SXM2", 15.7, 0, 125, 900}},
};

}  // namespace

double Peak::flops(const std::string& precision) const {
  if (precision == "f32") return 1e12 * f32_tflops;
  if (precision == "tf32") return 1e12 * tf32_tflops;
  // Before Ampere, which brought tf32, there was no bf16 either.
  if (precision == "bf16" && tf32_tflops == 0) return 0;
  return 1e12 * f16_tflops;
}

std::optional<Peak> peak_of(const std::string& device_name) {
  for (const Row& row : kRows) {
    if (device_name.find(row.part) != std::string::npos) return row.peak;
  }
  return std::nullopt;
}

}  // namespace dist::bench::gpu
