// SPDX-License-Identifier: Apache-2.0
// The training loop: forward, backward, finish_step, and a clock beside it.
#pragma once

#include <vector>

#include "examples/train/replica.h"

namespace train {

/// What one rank measured. Sums and means are over the timed steps; zeros on a rank that only
/// serves, but for bytes_sent_per_step.
struct Measurements {
  double wall_s = 0;            ///< of all timed steps
  std::vector<double> step_ms;  ///< one a timed step
  double exposed_ms = 0;        ///< mean a step: await() and finish_step() waited for the exchange
  double exposed_bound_ms = 0;  ///< mean a step: StepReport::communication_exposed_bound
  double busy_ms = 0;           ///< mean a step: some exchange was in flight
  double update_ms = 0;         ///< mean a step: this rank updated parameters
  double compression_ms = 0;    ///< mean a step: StepReport::compression
  double compression_saved_bytes_per_step = 0;
  std::string algorithm;  ///< of the last step's exchange; "" where a server does it
  double bytes_sent_per_step = 0;
  double memory_saved_bytes = 0;  ///< a rank; StepReport::memory_saved
  double loss_first = 0;          ///< of the very first step, warm-up included
  double loss_last = 0;
  std::int64_t steps = 0;             ///< in the parameters, those before a resume included
  dist::Status saved;                 ///< why the last checkpoint is not there, or ok
  bool stopped = false;               ///< told to end before the last step
  std::vector<nn::LayerTime> layers;  ///< mean a step; empty unless a profile was asked for
};

/// Trains options.warmup + options.steps steps, or serves until the workers are done. All ranks
/// call it; returns after strategy->end(). A run that resumes begins at its checkpoint's step, one
/// that is told to end leaves early. Errors carry the step and the strategy's story.
dist::Result<Measurements> run_training(const TrainOptions& options, Replica& replica,
                                        dist::World& world);

}  // namespace train
