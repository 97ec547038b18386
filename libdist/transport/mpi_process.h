// SPDX-License-Identifier: Apache-2.0
// Whether MPI runs in this process, who started it, and when it may end. Built only with MPI.
#pragma once

#include <memory>

#include "libdist/status.h"

namespace dist {

/// One user of MPI. The last one that goes finalises MPI, if MpiUse started it and nobody gave up.
/// Create and destroy it on the thread that may initialise and finalise MPI: the program's main
/// one.
class MpiUse {
 public:
  /// Initialises MPI unless that is done; sees that one thread at a time may call it.
  static Result<std::unique_ptr<MpiUse>> begin();

  /// Whether MPI runs.
  static bool initialised();

  ~MpiUse();
  MpiUse(const MpiUse&) = delete;
  MpiUse& operator=(const MpiUse&) = delete;

  /// MPI_Finalize waits for every rank: after a failure nobody may wait for it.
  void give_up();

 private:
  MpiUse() = default;
};

}  // namespace dist
