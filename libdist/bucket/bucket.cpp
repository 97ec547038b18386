// SPDX-License-Identifier: Apache-2.0
#include "libdist/bucket/bucket.h"

namespace dist {

std::vector<Bucket> make_buckets(const Arena& arena, BucketOptions options) {
  std::vector<Bucket> buckets;
  Bucket open;
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    const bool last = p + 1 == arena.parameter_count();
    open.range.end = last ? arena.elems().value : arena.range(p + 1).begin;
    open.last_parameter = p + 1;
    const Bytes limit = buckets.empty() ? options.first_bucket_bytes : options.bucket_bytes;
    if (last || bytes_of(Elems(open.range.elems()), arena.dtype()) >= limit) {
      buckets.push_back(open);
      open = {{open.range.end, open.range.end}, p + 1, p + 1};
    }
  }
  return buckets;
}

BucketTracker::BucketTracker(const std::vector<Bucket>& buckets) {
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    const auto size = buckets[b].last_parameter - buckets[b].first_parameter;
    bucket_sizes_.push_back(size);
    bucket_of_.insert(bucket_of_.end(), size, b);
  }
  begin_step();
}

void BucketTracker::begin_step() {
  waiting_ = bucket_sizes_;
  seen_.assign(bucket_of_.size(), false);
  next_ = 0;
}

void BucketTracker::ready(std::size_t parameter) {
  DIST_ASSERT(parameter < seen_.size(), "ready() of a parameter the arena does not hold");
  DIST_ASSERT(!seen_[parameter], "ready() was called twice for a parameter in one step");
  seen_[parameter] = true;
  --waiting_[bucket_of_[parameter]];
}

std::optional<std::size_t> BucketTracker::next_full() {
  if (next_ == waiting_.size() || waiting_[next_] != 0) return std::nullopt;
  return next_++;
}

}  // namespace dist
