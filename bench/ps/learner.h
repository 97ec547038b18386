// SPDX-License-Identifier: Apache-2.0
// A worker that learns: small_cnn on the learnable data set, every image new.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bench/ps/curve.h"
#include "libdist/bucket/arena.h"

namespace dist::bench {

struct LearnerOptions {
  std::string backend = "auto";  ///< auto: onednn where it is built in, else ref
  std::int64_t batch = 4;        ///< images of a step
  std::int64_t image = 32;       ///< their height and width
  std::uint64_t seed = 1;        ///< of the initial values and the data
};

/// The one way from the bench to the trainers' networks. Movable; the arena stays where it is. One
/// thread drives it.
class Learner {
 public:
  /// Errors: a backend that is not in this build, an image that is too small.
  static Result<Learner> make(const LearnerOptions& options);

  Learner(Learner&&) noexcept;
  ~Learner();

  Arena& arena() const;

  /// The gradient of the worker's batch of this step, left in the arena; what it returns has no
  /// time.
  Lesson study(std::uint64_t step, int worker, int workers);

 private:
  struct State;
  explicit Learner(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dist::bench
