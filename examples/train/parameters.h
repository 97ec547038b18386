// SPDX-License-Identifier: Apache-2.0
// A replica's parameters in plain layout: their fingerprint, and a file of them.
#pragma once

#include <cstdint>
#include <string>

#include "examples/nn/network.h"

namespace train {

/// 64 bits over the parameters in forward (graph) order and plain layout (conv oihw, dense oi),
/// whatever layout the backend keeps: starting from h = 0, for each parameter
/// h = mix64(h ^ stream_of(name)), then for each value v, widened to double,
/// h = mix64((h ^ bits(v)) + 0x9e3779b97f4a7c15); see examples/nn/random.h for both functions.
std::uint64_t parameter_hash(const nn::Network& network);

/// Writes the same values in the same order, as little-endian f64 and nothing else.
dist::Status save_parameters(const nn::Network& network, const std::string& path);

}  // namespace train
