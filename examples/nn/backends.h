// SPDX-License-Identifier: Apache-2.0
// The factories of the backends; only backends.cpp includes this. Each checks what it needs
// (options, memory, files) before it allocates.
#pragma once

#include <memory>

#include "examples/nn/network.h"

namespace nn {

dist::Result<std::unique_ptr<Network>> make_ref_network(const Graph& graph,
                                                        const NetworkOptions& options);
/// From onednn/net.cpp, or onednn_off.cpp, which returns `unavailable`.
dist::Result<std::unique_ptr<Network>> make_onednn_network(const Graph& graph,
                                                           const NetworkOptions& options);
/// From cudnn/cudnn_on.cpp, or cudnn_off.cpp, which returns `unavailable`.
dist::Result<std::unique_ptr<Network>> make_cudnn_network(const Graph& graph,
                                                          const NetworkOptions& options);
dist::Result<std::unique_ptr<Network>> make_replay_network(const Graph& graph,
                                                           const NetworkOptions& options);

}  // namespace nn
