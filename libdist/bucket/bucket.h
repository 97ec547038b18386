// SPDX-License-Identifier: Apache-2.0
// Buckets: neighbouring parameters of the arena that travel together. Bucket 0 holds the gradients
// that become ready first and is small, so that the first message leaves early.
#pragma once

#include <optional>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/types.h"

namespace dist {

struct BucketOptions {
  Bytes bucket_bytes = 25_MiB;       ///< a bucket closes when it holds at least this much
  Bytes first_bucket_bytes = 1_MiB;  ///< the same for bucket 0
};

/// A contiguous range of the arena and the parameters [first_parameter, last_parameter) in it.
struct Bucket {
  Range range;
  std::size_t first_parameter = 0;
  std::size_t last_parameter = 0;
};

/// Pure: cuts the arena into buckets. They cover it without gaps; a parameter is never split.
std::vector<Bucket> make_buckets(const Arena& arena, BucketOptions options);

/// Counts the parameters of a step down and releases buckets in their fixed order, whatever the
/// order in which gradients arrive: every rank must start the same bucket next. Not thread-safe.
class BucketTracker {
 public:
  explicit BucketTracker(const std::vector<Bucket>& buckets);

  /// Starts the next step: every parameter is waited for again.
  void begin_step();

  /// Notes that a gradient is final. Asserts that it was not noted before in this step.
  void ready(std::size_t parameter);

  /// The next bucket that may leave, in order, or nothing.
  std::optional<std::size_t> next_full();

  /// The bucket that a parameter travels in.
  std::size_t bucket_of(std::size_t parameter) const { return bucket_of_[parameter]; }

  /// Whether all buckets of the step were released.
  bool step_complete() const { return next_ == waiting_.size(); }

 private:
  std::vector<std::size_t> bucket_of_;
  std::vector<std::size_t> bucket_sizes_;
  std::vector<std::size_t> waiting_;
  std::vector<bool> seen_;
  std::size_t next_ = 0;
};

}  // namespace dist
