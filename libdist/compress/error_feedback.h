// SPDX-License-Identifier: Apache-2.0
// What compression has kept back of the elements of an arena, to be sent with their next values.
#pragma once

#include <span>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/compress/codec.h"

namespace dist {

/// A float an element, 0 at first; nothing for a method that needs none.
class ErrorFeedback {
 public:
  /// Nothing is kept.
  ErrorFeedback() = default;

  /// Error: resource.
  static Result<ErrorFeedback> make(Compression method, const Arena& arena);

  /// Of these elements, for Compressor::encode(); empty where nothing is kept.
  std::span<float> of(Range range) const;

  /// After encode(): nothing is owed to the gaps between parameters, which no checkpoint keeps.
  void clear_gaps(Range range) const;

 private:
  std::vector<Range> gaps_;  // ascending
  Mapping memory_;
};

}  // namespace dist
