// SPDX-License-Identifier: Apache-2.0
// In place of nccl_group.cpp where NCCL is not part of the build.
#include "allreduce/device_group.h"

namespace dist::allreduce {

Status nccl_available() {
  return Status::unavailable(
      "NCCL is not part of this build; install CUDA and NCCL and configure with "
      "-DDIST_WITH_NCCL=ON, or choose another transport");
}

Result<std::unique_ptr<DeviceGroup>> make_nccl_group(Progress&, Trace&, const Options&, Device&) {
  return nccl_available();
}

}  // namespace dist::allreduce
