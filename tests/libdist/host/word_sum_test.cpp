// SPDX-License-Identifier: Apache-2.0
#include "libdist/host/word_sum.h"

#include <array>

#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;

TEST_CASE("every rank gets the sums of all") {
  for (const auto& transport : test::kThreadTransports) {
    for (const int ranks : test::kRankCounts) {
      INFO(transport << ", " << ranks << " ranks");
      REQUIRE_NOTHROW(test::run_ranks(transport, ranks, [&](World& world) {
        for (std::uint64_t round = 0; round < 3; ++round) {
          const auto own = static_cast<std::uint64_t>(world.rank()) + round;
          std::array<std::uint64_t, 3> words = {own, 1, own << 40};
          test::expect_ok(world.progress().run(make_word_sum(words, "test")));
          const auto n = static_cast<std::uint64_t>(ranks);
          const auto sum = n * (n - 1) / 2 + n * round;
          expect(words == std::array<std::uint64_t, 3>{sum, n, sum << 40}, "the sums");
        }
      }));
    }
  }
}

TEST_CASE("a rank that is not there is named") {
  std::string story;
  Options options;
  options.timeout = std::chrono::milliseconds(300);
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [&](World& world) {
        std::array<std::uint64_t, 1> words = {1};
        if (world.rank() == 1) return;
        const Status outcome = world.progress().run(make_word_sum(words, "meeting"));
        expect(!outcome.ok(), "nobody answered");
        story = outcome.message();
      },
      options));
  INFO(story);
  REQUIRE(story.find("meeting") != std::string::npos);
  REQUIRE(story.find("rank 1") != std::string::npos);
}

}  // namespace
