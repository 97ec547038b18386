// SPDX-License-Identifier: Apache-2.0
// A replica on a GPU, from its parts; tests make it with a device and a library of their own.
#pragma once

#include <memory>

#include "examples/nn/cudnn/library.h"
#include "examples/nn/network.h"

namespace nn::cudnn {

Arithmetic arithmetic_of(const NetworkOptions& options);

/// `options.device` is set. Errors: a layer that the library has no algorithm for.
dist::Result<std::unique_ptr<Network>> make_network(const Graph& graph,
                                                    const NetworkOptions& options,
                                                    std::unique_ptr<Library> library);

}  // namespace nn::cudnn
