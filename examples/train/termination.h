// SPDX-License-Identifier: Apache-2.0
// SIGTERM as a question that the training loop asks between two steps.
#pragma once

namespace train {

/// What a run exits with that was told to end and left a checkpoint: EX_TEMPFAIL, "try again".
inline constexpr int kStoppedExitCode = 75;

/// From now on SIGTERM is only noted. For a program's main thread, before it starts others.
void note_termination();

/// Whether it came.
bool termination_asked();

}  // namespace train
