// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/device.h"

#include <algorithm>

#include "tests/support/catch.h"
#include "tests/support/fake_device.h"

namespace dist::bench::gpu {

TEST_CASE("nvidia-smi's line, with what it does not know") {
  const auto fields = parse_smi("580.65.06, 143771, 700.00, 1980, 3201\n");
  CHECK(fields["driver"] == "580.65.06");
  CHECK(fields["memory_mib"] == 143771);
  CHECK(fields["sm_clock_max_mhz"] == 1980);
  const auto partial = parse_smi("580.65.06, 143771, [N/A], 1980, 3201");
  CHECK(partial["power_limit_w"].is_null());
  CHECK(partial["memory_mib"] == 143771);
}

TEST_CASE("anything else that nvidia-smi says is nothing") {
  CHECK(parse_smi("").empty());
  CHECK(parse_smi("No devices were found\n").empty());
  CHECK(parse_smi("a, b").empty());
  CHECK(parse_smi("1, , 3, 4, 5").empty());
}

TEST_CASE("versions of the build are words or null") {
  for (const char* part : {"cuda", "cudnn", "nccl"}) {
    const auto version = built_with()[part];
    CHECK((version.is_null() || !version.get<std::string>().empty()));
  }
}

TEST_CASE("a copy's bandwidth counts what is read and what is written, and leaves nothing behind") {
  test::FakeDeviceOptions slow;
  slow.most_delay = std::chrono::microseconds(1);
  test::FakeDevice device(slow);
  const auto bandwidth = copy_bandwidth(device, 1_MiB, 5);
  REQUIRE_OK(bandwidth);
  CHECK(*bandwidth > 1e6);
  CHECK(device.allocations() == 0);
  const auto calls = device.calls();
  CHECK(std::ranges::count(calls, "copy", &test::FakeCall::operation) == 6);
  CHECK(calls.back().operation != "copy");  // the clock stops when the device has
}

TEST_CASE("a copy that fails is told") {
  test::FakeDevice device;
  device.fail("copy", Status::resource("broken"), 3);
  const auto bandwidth = copy_bandwidth(device, 1_MiB, 5);
  REQUIRE_FALSE(bandwidth.ok());
  CHECK(bandwidth.status().message().find("broken") != std::string::npos);
  CHECK(device.allocations() == 0);
}

TEST_CASE("a device is found, or the reason why there is none") {
  const auto found = find_device();
  CHECK(found.ok() == device_available().ok());
  if (found.ok()) {
    CHECK(found->copy_gb_per_s > 1);
    CHECK(found->provenance["device"] == found->name);
  } else {
    CHECK(found.status().code() == ErrorCode::unavailable);
    CHECK(found.status().message().size() > 10);
  }
}

}  // namespace dist::bench::gpu
