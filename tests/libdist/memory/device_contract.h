// SPDX-License-Identifier: Apache-2.0
// What every Device must do, against the host's own functions: device_contract.cpp is linked once
// with FakeDevice and once with the first GPU.
#pragma once

#include <memory>

#include "libdist/memory/device.h"

namespace dist::test {

/// The device under test; ends the executable as skipped where there is none.
std::unique_ptr<Device> make_device();

}  // namespace dist::test
