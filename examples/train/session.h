// SPDX-License-Identifier: Apache-2.0
// One run of train_cnn on one rank, from options to exit code, and who of the ranks tells a
// failure.
#pragma once

#include <string>

#include "examples/train/options.h"

namespace train {

/// How a run ended. A failure that all ranks share is told by one of them: the others have an exit
/// code of 1 and nothing to say. So it is when a run is told to end: exit code kStoppedExitCode.
struct Outcome {
  int exit_code = 0;
  std::string error;
};

/// Describes or trains.
Outcome run_session(TrainOptions options);

}  // namespace train
