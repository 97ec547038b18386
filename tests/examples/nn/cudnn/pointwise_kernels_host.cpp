// SPDX-License-Identifier: Apache-2.0
// The kernels, for the host.
#include "tests/examples/nn/cudnn/host_grid.h"
// The macros above must come first.
#include "examples/nn/cudnn/pointwise_kernels.cu"
