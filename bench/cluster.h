// SPDX-License-Identifier: Apache-2.0
// A file of bench/clusters: how long an accelerator computes a step of each model.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "libdist/status.h"

namespace dist::bench {

struct Cluster {
  std::string name;  ///< the accelerator, with "(assumed)" where the file says so
  std::uint64_t batch = 32;
  std::map<std::string, double> step_ms;

  /// Computation of one step at another batch: in proportion, which ignores that small batches
  /// use an accelerator less well.
  Result<double> step_ms_at(const std::string& model, std::uint64_t other_batch) const;
};

/// Reads a cluster file; an error names the file and what is wrong in it.
Result<Cluster> read_cluster(const std::string& path);

}  // namespace dist::bench
