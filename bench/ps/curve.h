// SPDX-License-Identifier: Apache-2.0
// How fast a training learnt: loss and accuracy by samples and by time. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace dist::bench {

/// One worker's step: its batch's mean loss and accuracy before the batch was learnt. Where every
/// batch is new, that is what the parameters do on images they have never seen.
struct Lesson {
  double seconds = 0;  ///< when the step ended, since all began
  double loss = 0;
  double accuracy = 0;
};

/// Means over a window of lessons.
struct CurvePoint {
  double samples = 0;  ///< that all workers together have learnt from, the window's last included
  double seconds = 0;  ///< of the window's last lesson
  double loss = 0;
  double accuracy = 0;
};
using Curve = std::vector<CurvePoint>;

/// The lessons of all workers in the order in which they ended; point i is the mean over lessons i
/// .. i + window - 1. Empty where there are fewer than `window`.
Curve smooth(std::vector<Lesson> lessons, std::size_t batch, std::size_t window);

/// Point by point, as far as the shortest goes.
Curve mean_of(std::span<const Curve> curves);

/// Samples at the first point whose loss is at most `loss`, if there is one.
std::optional<double> samples_to_reach(const Curve& curve, double loss);
/// Likewise seconds.
std::optional<double> seconds_to_reach(const Curve& curve, double loss);

/// At most `count` points of it, evenly chosen, the last one among them.
Curve thin_out(const Curve& curve, std::size_t count);

}  // namespace dist::bench
