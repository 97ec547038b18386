// SPDX-License-Identifier: Apache-2.0
// A call of CUDA, cuDNN or cuBLASLt that failed. Thrown below Network, which adds the layer and its
// shape; making and binding a network turn it into a Status.
#pragma once

#include <stdexcept>

namespace nn::cudnn {

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace nn::cudnn
