// SPDX-License-Identifier: Apache-2.0
#include "allreduce/exposure.h"

#include "tests/support/catch.h"

namespace dist::allreduce {
namespace {

using test::Approx;

TimePoint at(std::int64_t ns) { return TimePoint(Duration(ns)); }

TEST_CASE("what is left after the backward pass, on a link that carries one bucket at a time") {
  const LinkModel link{10, 2};  // 100 bytes take 210 ns
  SECTION("nothing is left of what was over before the end") {
    const std::vector<Transfer> transfers = {{at(0), 100_B}, {at(300), 100_B}};
    CHECK(least_exposed(transfers, at(510), link) == Duration(0));
    CHECK(least_exposed(transfers, at(600), link) == Duration(0));
    CHECK(least_exposed(transfers, at(500), link) == Duration(10));
  }
  SECTION("a bucket waits for the one before it") {
    const std::vector<Transfer> transfers = {{at(0), 100_B}, {at(50), 100_B}, {at(60), 0_B}};
    CHECK(least_exposed(transfers, at(60), link) == Duration(210 + 210 + 10 - 60));
  }
  SECTION("no buckets, no exchange") { CHECK(least_exposed({}, at(5), link) == Duration(0)); }
}

TEST_CASE("a fit finds the line that exact times lie on") {
  LinkFit fit;
  for (std::size_t b = 0; b < 4; ++b) {
    const Bytes bytes(1000 * (b + 1));
    fit.note(b, bytes, Duration(500 + 3 * static_cast<std::int64_t>(bytes.value)));
    fit.note(b, bytes, Duration(90'000));  // a slower step says nothing
  }
  CHECK(fit.model().alpha_ns == Approx(500));
  CHECK(fit.model().beta_ns_per_byte == Approx(3));
}

TEST_CASE("no bucket was faster than the fit says") {
  LinkFit fit;
  const std::vector<std::pair<Bytes, Duration>> seen = {{1000_B, Duration(4000)},
                                                        {2000_B, Duration(4100)},
                                                        {3000_B, Duration(9000)},
                                                        {9000_B, Duration(20'000)}};
  for (std::size_t b = 0; b < seen.size(); ++b) fit.note(b, seen[b].first, seen[b].second);
  const LinkModel link = fit.model();
  CHECK(link.alpha_ns >= 0);
  CHECK(link.beta_ns_per_byte > 0);
  for (const auto& [bytes, took] : seen) {
    CHECK(link.time_ns(bytes) <= static_cast<double>(took.count()) + 1e-6);
  }
}

TEST_CASE("a fit of little says little") {
  LinkFit fit;
  CHECK(fit.model().time_ns(100_B) == 0);
  fit.note(2, 1000_B, Duration(5000));
  CHECK(fit.model().alpha_ns == Approx(0).margin(1e-9));
  CHECK(fit.model().time_ns(500_B) == Approx(2500));
}

// The larger bucket took less: beta cannot be negative, and the line lies below both.
TEST_CASE("times that fall with size give a flat line") {
  LinkFit fit;
  fit.note(0, 1000_B, Duration(5000));
  fit.note(1, 2000_B, Duration(3000));
  CHECK(fit.model().alpha_ns == Approx(3000));
  CHECK(fit.model().beta_ns_per_byte == 0);
}

}  // namespace
}  // namespace dist::allreduce
