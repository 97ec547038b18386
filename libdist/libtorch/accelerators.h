// SPDX-License-Identifier: Apache-2.0
// Internal: the GPUs on which a module's parameters lie.
#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

#include "libdist/libtorch/libtorch.h"
#include "libdist/status.h"

namespace dist::libtorch {

/// Those that of() was asked for.
class Accelerators {
 public:
  /// See AttachOptions::accelerator.
  explicit Accelerators(std::function<Result<Accelerator>(torch::Device)> find);

  /// Without a device where tensors of `place` lie in host memory. Errors: unavailable where the
  /// library cannot use the device; invalid_argument where LibTorch computes on another stream.
  Result<Accelerator> of(torch::Device place);

  /// Whether LibTorch still computes on the streams on which it did when of() was asked first:
  /// gradients and parameters are ordered with those alone.
  Status check_streams() const;

 private:
  struct Known {
    torch::Device place;
    c10::Stream stream;  // LibTorch's name of it
    Accelerator accelerator;
  };

  std::function<Result<Accelerator>(torch::Device)> find_;
  std::vector<Known> known_;
};

}  // namespace dist::libtorch
