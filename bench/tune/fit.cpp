// SPDX-License-Identifier: Apache-2.0
#include "bench/tune/fit.h"

#include <algorithm>
#include <cmath>

namespace dist::bench {
namespace {

double rounds(int ranks) { return 2.0 * (ranks - 1); }
double share(int ranks) { return static_cast<double>(ranks - 1) / ranks; }

// Minimises sum (x a + y b - z)^2 over a, b >= 0.
struct Squares {
  double xx = 0, xy = 0, yy = 0, xz = 0, yz = 0, zz = 0;

  double error(double a, double b) const {
    return a * a * xx + 2 * a * b * xy + b * b * yy - 2 * a * xz - 2 * b * yz + zz;
  }
};

}  // namespace

double ring_seconds(const LinkCosts& costs, int ranks, double bytes) {
  return rounds(ranks) * costs.alpha_s + 2 * share(ranks) * bytes * costs.beta_s_per_byte +
         share(ranks) * bytes * costs.gamma_s_per_byte;
}

LinkCosts fit_ring(std::span<const RingSample> samples, double gamma_s_per_byte) {
  Squares sums;
  for (const RingSample& sample : samples) {
    if (!(sample.seconds > 0)) continue;
    // Divided by the measured time, so that short messages count as much as long ones.
    const double x = rounds(sample.ranks) / sample.seconds;
    const double y = 2 * share(sample.ranks) * sample.bytes / sample.seconds;
    const double z = 1 - share(sample.ranks) * sample.bytes * gamma_s_per_byte / sample.seconds;
    sums.xx += x * x;
    sums.xy += x * y;
    sums.yy += y * y;
    sums.xz += x * z;
    sums.yz += y * z;
    sums.zz += z * z;
  }
  const double only_alpha = sums.xx > 0 ? std::max(sums.xz / sums.xx, 0.0) : 0;
  const double only_beta = sums.yy > 0 ? std::max(sums.yz / sums.yy, 0.0) : 0;
  LinkCosts costs{0, only_beta, gamma_s_per_byte};
  if (sums.error(only_alpha, 0) < sums.error(0, only_beta)) {
    costs = {only_alpha, 0, gamma_s_per_byte};
  }
  const double determinant = sums.xx * sums.yy - sums.xy * sums.xy;
  // Samples of one kind only leave the two indistinguishable.
  if (!(determinant > 1e-9 * sums.xx * sums.yy)) return costs;
  const double alpha = (sums.xz * sums.yy - sums.yz * sums.xy) / determinant;
  const double beta = (sums.yz * sums.xx - sums.xz * sums.xy) / determinant;
  return alpha >= 0 && beta >= 0 ? LinkCosts{alpha, beta, gamma_s_per_byte} : costs;
}

double worst_error(const LinkCosts& costs, std::span<const RingSample> samples) {
  double worst = 0;
  for (const RingSample& sample : samples) {
    if (!(sample.seconds > 0)) continue;
    const double model = ring_seconds(costs, sample.ranks, sample.bytes);
    worst = std::max(worst, std::abs(model / sample.seconds - 1));
  }
  return worst;
}

}  // namespace dist::bench
