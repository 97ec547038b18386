// SPDX-License-Identifier: Apache-2.0
// A layer-time profile: how long each node of a model took, measured with train_cnn --profile or
// made up from the graph. JSON: {"record": "profile", "model", "image", "batch", "backend",
// "machine", "nodes": [{"name", "forward_ms", "backward_ms"}, ...]}, nodes in the graph's order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "examples/nn/graph.h"
#include "examples/nn/network.h"
#include "libdist/status.h"

namespace nn {

struct Profile {
  std::string model;
  std::int64_t image = 0;
  std::int64_t batch = 0;
  std::string backend;
  std::string machine;  ///< Where it was measured, in words; "estimated" when made up.
  std::vector<LayerTime> nodes;

  double total_ns() const;  ///< Forward plus backward, all nodes.
};

dist::Result<Profile> read_profile(const std::string& path);
dist::Status write_profile(const Profile& profile, const std::string& path);

/// A profile without a measurement, for a machine of 100 GFLOP/s and 10 GB/s:
///   forward = (flop / 100e9 + 4 * (elements read + written + parameters) / 10e9) * batch, in s
///   (parameters counted once a batch); backward = 2 * forward for nodes with parameters, else 1 *.
/// Only the proportions matter where a step time is given.
Profile estimate_profile(const Graph& graph, std::int64_t batch);

/// Ok when `profile` has exactly the graph's nodes, by name and order; times finite and >= 0.
dist::Status check_profile(const Profile& profile, const Graph& graph);

}  // namespace nn
