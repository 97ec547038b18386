// SPDX-License-Identifier: Apache-2.0
// The contract on the first GPU.
#include "tests/libdist/memory/device_contract.h"
#include "tests/support/catch.h"

namespace dist {

std::unique_ptr<Device> test::make_device() {
  if (const Status status = device_available(); !status.ok()) skip(status.message());
  return open_device(0).value();
}

}  // namespace dist
