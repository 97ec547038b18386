// SPDX-License-Identifier: Apache-2.0
// The fit finds the costs that made the samples, and stays sensible where they do not say enough.
#include "bench/tune/fit.h"

#include <vector>

#include "tests/support/catch.h"

namespace {

using namespace dist::bench;
using dist::test::Approx;

std::vector<RingSample> samples_of(const LinkCosts& costs) {
  std::vector<RingSample> samples;
  for (const int ranks : {2, 4, 8}) {
    for (const double bytes : {64.0, 4096.0, 1e6, 1e8}) {
      samples.push_back({ranks, bytes, ring_seconds(costs, ranks, bytes)});
    }
  }
  return samples;
}

TEST_CASE("the model is that of a ring") {
  const LinkCosts costs{1e-6, 1e-9, 1e-10};
  REQUIRE(ring_seconds(costs, 2, 0) == Approx(2e-6));
  REQUIRE(ring_seconds(costs, 4, 1e6) == Approx(6e-6 + 1.5e6 * 1e-9 + 0.75e6 * 1e-10));
  REQUIRE(ring_seconds(costs, 1, 1e6) == 0);
}

TEST_CASE("exact samples give back their costs") {
  const LinkCosts costs{5e-6, 3e-10, 5e-11};
  const auto samples = samples_of(costs);
  const auto fit = fit_ring(samples, costs.gamma_s_per_byte);
  REQUIRE(fit.alpha_s == Approx(costs.alpha_s));
  REQUIRE(fit.beta_s_per_byte == Approx(costs.beta_s_per_byte));
  REQUIRE(fit.gamma_s_per_byte == costs.gamma_s_per_byte);
  REQUIRE(worst_error(fit, samples) < 1e-9);
}

TEST_CASE("noise moves the fit little, and the worst error says how much it is off") {
  const LinkCosts costs{5e-6, 3e-10, 0};
  auto samples = samples_of(costs);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].seconds *= i % 2 == 0 ? 1.05 : 0.95;
  const auto fit = fit_ring(samples, 0);
  REQUIRE(fit.alpha_s == Approx(costs.alpha_s).epsilon(0.1));
  REQUIRE(fit.beta_s_per_byte == Approx(costs.beta_s_per_byte).epsilon(0.1));
  REQUIRE(worst_error(fit, samples) > 0.03);
  REQUIRE(worst_error(fit, samples) < 0.15);
}

TEST_CASE("costs are never negative") {
  // Shorter messages that last longer: no alpha and beta make that.
  const std::vector<RingSample> odd = {{2, 100, 2e-6}, {2, 1e6, 1e-6}};
  const auto fit = fit_ring(odd, 0);
  REQUIRE(fit.alpha_s > 0);
  REQUIRE(fit.beta_s_per_byte == 0);
  // A gamma that explains more than was measured.
  const auto free_link = fit_ring(samples_of({0, 1e-10, 0}), 1e-6);
  REQUIRE(free_link.alpha_s == 0);
  REQUIRE(free_link.beta_s_per_byte == 0);
}

TEST_CASE("one size cannot tell alpha from beta, no samples tell nothing") {
  const std::vector<RingSample> one = {{2, 1000, 1e-5}, {2, 1000, 1e-5}};
  const auto fit = fit_ring(one, 0);
  REQUIRE(ring_seconds(fit, 2, 1000) == Approx(1e-5));
  REQUIRE((fit.alpha_s == 0 || fit.beta_s_per_byte == 0));
  const auto nothing = fit_ring({}, 2e-10);
  REQUIRE(nothing.alpha_s == 0);
  REQUIRE(nothing.beta_s_per_byte == 0);
  REQUIRE(nothing.gamma_s_per_byte == 2e-10);
  REQUIRE(worst_error(nothing, {}) == 0);
  const std::vector<RingSample> no_time = {{2, 1000, 0}};
  REQUIRE(fit_ring(no_time, 0).alpha_s == 0);
}

}  // namespace
