// SPDX-License-Identifier: Apache-2.0
// One training of all workers by one variant.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/ps/curve.h"
#include "bench/ps/delays.h"
#include "bench/ps/ideal.h"
#include "bench/ps/learner.h"
#include "bench/ps/variant.h"
#include "libdist/group.h"
#include "libdist/options.h"

namespace dist::bench {

struct SchoolOptions {
  LearnerOptions learner;
  Delays delays;  ///< a step takes at least so long: the gradient is held back until then
  RunLength length{.steps = 150, .seconds = 0};
  double learning_rate = 0.005;  ///< of a mean over all workers; see Variant::rate_for()
  double momentum = 0.9;
};

/// What all ranks together did; the same on every rank.
struct Schooling {  // NOLINT(bugprone-exception-escape): moving a vector is noexcept, but asserts
  std::vector<Lesson> lessons;  ///< of all workers, worker by worker
  int workers = 0;
  int servers = 0;
  double learning_rate = 0;  ///< as the optimizer had it
  double momentum = 0;       ///< likewise
  double bytes_sent = 0;     ///< mean over the steps of all workers
  double compression_ms = 0;
  double dropped = 0;  ///< part of the contributions
  double staleness_max = 0;
  double staleness_mean = 0;
};

/// Collective among the ranks of `group`, which was made for a world with these options but for
/// the job; `options.job` is that of the training's own world.
Result<Schooling> run_school(const SchoolOptions& school, const Variant& variant, Options options,
                             Group& group);

}  // namespace dist::bench
