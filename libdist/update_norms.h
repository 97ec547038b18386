// SPDX-License-Identifier: Apache-2.0
// What norms over whole parameters make of a step's scalars, once for processors and GPUs: plain
// functions of doubles, without a call that rounds differently from one to the other.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "libdist/clip.h"
#include "libdist/update_scalars.h"

namespace dist {

/// std::sqrt, as a template, since std::sqrt is constexpr to no other compiler than gcc.
template <typename T>
constexpr T root_of(T value) {
  return std::sqrt(value);
}

/// The norms that an update asks for; 0: not these.
struct NormScaling {
  double clip_norm = 0;          ///< Update::clip_norm
  bool skip_not_finite = false;  ///< Update::skip_not_finite
  bool by_parameter = false;     ///< Lars
  double trust = 0;              ///< Lars::trust
  double weight_decay = 0;       ///< Lars::weight_decay
};

/// A part of an updater's elements, as UpdateLayout::Part.
struct NormPart {
  std::uint32_t parameter = 0;  ///< in the arena
  std::uint32_t decays = 1;     ///< 0 or 1: Parameter::decays
};

/// `gradient_scale`, less where the mean gradient, whose sum has these squares, is longer than
/// clip_norm.
constexpr double clipped_scale(double gradient_scale, double squares, double clip_norm) {
  if (clip_norm == 0) return gradient_scale;
  return gradient_scale * clip_factor(clip_norm, root_of(squares) * gradient_scale);
}

/// The ratio r of Lars for a parameter with weight decay; squares of its summed gradient, which is
/// multiplied by `scale`, and of its values.
constexpr double trust_ratio(const NormScaling& scaling, double scale, double gradient_squares,
                             double weight_squares) {
  const double gradient = root_of(gradient_squares) * scale;
  const double weight = root_of(weight_squares);
  if (gradient == 0 || weight == 0) return 1;
  return scaling.trust * weight / (gradient + scaling.weight_decay * weight);
}

/// What a GPU derives a step's scalars from when the work happens; all of it is memory that it can
/// reach.
struct NormInputs {
  const UpdateScalars* bases = nullptr;  ///< of parts with and without weight decay
  const NormPart* parts = nullptr;       ///< ascending
  std::uint64_t part_count = 0;          ///< of `parts`
  const double* squares = nullptr;       ///< as UpdateStep::squares; nullptr: no norms
  std::uint64_t parameters = 0;          ///< a square each for gradients, then for values
  const double* contributors = nullptr;  ///< where given, the mean is over so many
};

/// The squares of all gradients.
constexpr double norm_total(const NormInputs& in) {
  double total = 0;
  for (std::uint64_t p = 0; in.squares != nullptr && p < in.parameters; ++p) {
    total += in.squares[p];
  }
  return total;
}

/// Finite unless the update is to be left out: for what its gradients are, or since nobody
/// contributed.
constexpr double norm_gate(const NormScaling& scaling, const NormInputs& in, double total) {
  if (in.contributors != nullptr && *in.contributors == 0) {
    return std::numeric_limits<double>::infinity();
  }
  return scaling.skip_not_finite ? total : 0;
}

/// The scalars of one part.
constexpr UpdateScalars norm_scalars(const NormScaling& scaling, const NormInputs& in, double total,
                                     std::uint64_t part) {
  const NormPart& which = in.parts[part];
  UpdateScalars scalars = in.bases[which.decays != 0 ? 0 : 1];
  double scale = scalars.scale;
  if (in.contributors != nullptr) scale = 1 / *in.contributors;
  scalars.scale = clipped_scale(scale, total, scaling.clip_norm);
  if (scaling.by_parameter && which.decays != 0) {
    scalars.rate *= trust_ratio(scaling, scalars.scale, in.squares[which.parameter],
                                in.squares[in.parameters + which.parameter]);
  }
  return scalars;
}

}  // namespace dist
