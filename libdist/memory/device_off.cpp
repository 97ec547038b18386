// SPDX-License-Identifier: Apache-2.0
// Linked in place of device_cuda.cpp where the build has no CUDA.
#include "libdist/memory/device.h"

namespace dist {

Status device_available() {
  return Status::unavailable(
      "this build has no CUDA: install the CUDA Toolkit with nvcc and configure with "
      "-DDIST_WITH_CUDA=ON");
}

int device_count() { return 0; }

Result<std::unique_ptr<Device>> open_device(int) { return device_available(); }

}  // namespace dist
