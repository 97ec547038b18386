// SPDX-License-Identifier: Apache-2.0
// Devices of LibTorch's that its builds for CPUs lack, over fake GPUs: tensors lie in host
// memory that LibTorch takes for a device's, with the engine's own threads for their gradients.
// Operations come after all work on the GPU's default stream and are done when they return; what
// the library does beside them happens on the fake's streams, as late as these like.
#pragma once

#include <torch/types.h>

#include <array>
#include <memory>

#include "libdist/libtorch/libtorch.h"
#include "tests/support/fake_device.h"

namespace dist::test {

inline constexpr int kFakeAccelerators = 4;

/// "xpu:index", or another kind with newer versions.
torch::Device fake_place(int index);

/// The GPUs behind them, which outlive all tensors there.
using FakeAccelerators = std::array<std::shared_ptr<FakeDevice>, kFakeAccelerators>;
FakeAccelerators make_fake_accelerators();

/// For AttachOptions::accelerator: one of those made last. Leaves it as the thread's current one,
/// as calls of CUDA do.
Result<libtorch::Accelerator> find_fake_accelerator(torch::Device place);

/// LibTorch's current device of this thread.
int current_fake();

/// LibTorch's current stream there: 0, the default one, is all that its operations know.
void set_current_fake_stream(int index, int stream);

}  // namespace dist::test
