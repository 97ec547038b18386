// SPDX-License-Identifier: Apache-2.0
// The alpha-beta-gamma model of a ring all-reduce, fitted to measured times.
#pragma once

#include <span>

namespace dist::bench {

/// What a link and a core cost.
struct LinkCosts {
  double alpha_s = 0;           ///< a message, whatever its length
  double beta_s_per_byte = 0;   ///< a byte on the way
  double gamma_s_per_byte = 0;  ///< a byte reduced
};

/// One measured ring all-reduce.
struct RingSample {
  int ranks = 2;
  double bytes = 0;
  double seconds = 0;
};

/// 2 (N - 1) alpha + 2 (N - 1)/N bytes beta + (N - 1)/N bytes gamma.
double ring_seconds(const LinkCosts& costs, int ranks, double bytes);

/// alpha and beta, neither below 0, with the least sum of squared relative errors, for a gamma that
/// was measured by itself. All 0 without samples; one that lasted no time is left out.
LinkCosts fit_ring(std::span<const RingSample> samples, double gamma_s_per_byte);

/// The largest |model / measured - 1| of the samples; 0 without any.
double worst_error(const LinkCosts& costs, std::span<const RingSample> samples);

}  // namespace dist::bench
