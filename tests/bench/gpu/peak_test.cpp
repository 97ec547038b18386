// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/peak.h"

#include "tests/support/catch.h"

namespace dist::bench::gpu {

TEST_CASE("peaks by the names that the driver gives") {
  const auto h200 = peak_of("cuda:0 NVIDIA H200");
  REQUIRE(h200);
  CHECK(h200->flops("f16") == 989e12);
  CHECK(h200->flops("bf16") == 989e12);
  CHECK(h200->flops("tf32") == 494e12);
  CHECK(h200->flops("f32") == 67e12);
  CHECK(h200->memory_gb_per_s == 4800);
  CHECK(peak_of("NVIDIA H100 80GB HBM3")->memory_gb_per_s == 3350);
  CHECK(peak_of("NVIDIA H100 PCIe")->memory_gb_per_s == 2000);
  CHECK(peak_of("NVIDIA A100-SXM4-80GB")->flops("f16") == 312e12);
}

TEST_CASE("an unknown device has no peak, an old one no bf16") {
  CHECK_FALSE(peak_of("NVIDIA GeForce GT 710"));
  CHECK_FALSE(peak_of(""));
  CHECK(peak_of("Tesla V100-SXM2-16GB")->flops("bf16") == 0);
  CHECK(peak_of("Tesla V100-SXM2-16GB")->flops("f16") == 125e12);
}

}  // namespace dist::bench::gpu
