// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/curve.h"

#include <algorithm>

namespace dist::bench {
namespace {

Curve::const_iterator first_at_most(const Curve& curve, double loss) {
  return std::find_if(curve.begin(), curve.end(),
                      [loss](const CurvePoint& point) { return point.loss <= loss; });
}

}  // namespace

Curve smooth(std::vector<Lesson> lessons, std::size_t batch, std::size_t window) {
  std::stable_sort(lessons.begin(), lessons.end(),
                   [](const Lesson& a, const Lesson& b) { return a.seconds < b.seconds; });
  Curve curve;
  for (std::size_t end = window; end <= lessons.size(); ++end) {
    CurvePoint point{static_cast<double>(end * batch), lessons[end - 1].seconds, 0, 0};
    for (std::size_t i = end - window; i < end; ++i) {
      point.loss += lessons[i].loss / static_cast<double>(window);
      point.accuracy += lessons[i].accuracy / static_cast<double>(window);
    }
    curve.push_back(point);
  }
  return curve;
}

Curve mean_of(std::span<const Curve> curves) {
  if (curves.empty()) return {};
  std::size_t length = curves.front().size();
  for (const Curve& curve : curves) length = std::min(length, curve.size());
  Curve mean(length);
  const auto count = static_cast<double>(curves.size());
  for (const Curve& curve : curves) {
    for (std::size_t i = 0; i < length; ++i) {
      mean[i].samples += curve[i].samples / count;
      mean[i].seconds += curve[i].seconds / count;
      mean[i].loss += curve[i].loss / count;
      mean[i].accuracy += curve[i].accuracy / count;
    }
  }
  return mean;
}

std::optional<double> samples_to_reach(const Curve& curve, double loss) {
  const auto found = first_at_most(curve, loss);
  return found == curve.end() ? std::nullopt : std::optional(found->samples);
}

std::optional<double> seconds_to_reach(const Curve& curve, double loss) {
  const auto found = first_at_most(curve, loss);
  return found == curve.end() ? std::nullopt : std::optional(found->seconds);
}

Curve thin_out(const Curve& curve, std::size_t count) {
  if (curve.size() <= count) return curve;
  Curve thin;
  for (std::size_t i = 1; i <= count; ++i) thin.push_back(curve[i * curve.size() / count - 1]);
  return thin;
}

}  // namespace dist::bench
