// SPDX-License-Identifier: Apache-2.0
// How much of a step's communication nobody could have hidden: the moments at which its buckets
// were ready, replayed on the alpha-beta model of a link. Pure: no clock, no transport.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "libdist/types.h"

namespace dist::allreduce {

/// A message of n bytes takes alpha + n * beta (Hockney 1994).
struct LinkModel {
  double alpha_ns = 0;
  double beta_ns_per_byte = 0;

  double time_ns(Bytes bytes) const {
    return alpha_ns + static_cast<double>(bytes.value) * beta_ns_per_byte;
  }
};

/// A bucket of a step.
struct Transfer {
  TimePoint ready;
  Bytes bytes;
};

/// How long after `backward_end` the last of `transfers` is over, if each begins when it is ready
/// and the one before it is over, and takes what the model says; at least 0.
Duration least_exposed(std::span<const Transfer> transfers, TimePoint backward_end,
                       const LinkModel& link);

/// The model of the link as the buckets of a run have shown it: no bucket was ever faster than it
/// says.
class LinkFit {
 public:
  /// Bucket `index`, always of the same size, was under way for so long.
  void note(std::size_t index, Bytes bytes, Duration took);

  /// The line through the shortest times of all buckets by least squares, lowered until none of
  /// them lies below it; alpha and beta are at least 0. All zero before the first note.
  LinkModel model() const;

 private:
  struct Shortest {
    double bytes = 0;
    double took_ns = 0;  // 0: not noted yet
  };
  std::vector<Shortest> shortest_;  // by bucket
};

}  // namespace dist::allreduce
