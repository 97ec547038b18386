// SPDX-License-Identifier: Apache-2.0
#include "bench/summary.h"

#include "tests/support/catch.h"

using dist::bench::Record;
using dist::bench::summarise;
using dist::test::Approx;

namespace {

Record record(const char* strategy, int ranks, double rate, const char* kind = "measured") {
  Record made;
  made.run = {"resnet50", strategy, ranks, 0};
  made.kind = kind;
  made.workers = ranks;
  made.batch = 8;
  made.images_per_second = rate;
  made.images_per_second_se = rate / 10;
  made.step_ms = 1000 * 8 * ranks / rate;
  return made;
}

}  // namespace

TEST_CASE("speed-up is against one independent worker, efficiency against N of them too") {
  const auto summary =
      summarise({record("none", 1, 10), record("none", 4, 32), record("ring", 1, 9),
                 record("ring", 4, 24), record("sync-ps", 4, 16)});
  REQUIRE_OK(summary);
  const auto* cell = summary->find("resnet50", "ring", 4);
  REQUIRE(cell != nullptr);
  REQUIRE(cell->runs == 1);
  REQUIRE(*cell->speedup == Approx(2.4));
  REQUIRE(*cell->efficiency == Approx(0.6));
  REQUIRE(*cell->of_independent == Approx(0.75));
  REQUIRE(*summary->find("resnet50", "ring", 1)->speedup == Approx(0.9));
  REQUIRE(*summary->find("resnet50", "none", 4)->speedup == Approx(3.2));
  REQUIRE(summary->find("resnet50", "async-ps", 4) == nullptr);
}

TEST_CASE("strategies have one order, ranks ascend, the baseline is no strategy") {
  const auto summary = summarise({record("ring", 4, 1), record("none", 1, 1), record("ring", 2, 1),
                                  record("async-ps", 2, 1), record("sync-ps", 2, 1)});
  REQUIRE_OK(summary);
  REQUIRE(summary->strategies == std::vector<std::string>{"sync-ps", "async-ps", "ring"});
  REQUIRE(summary->ranks == std::vector<int>{1, 2, 4});
}

TEST_CASE("repeats are averaged and their spread replaces the spread over steps") {
  const auto summary = summarise({record("ring", 2, 10), record("ring", 2, 14)});
  REQUIRE_OK(summary);
  const auto* cell = summary->find("resnet50", "ring", 2);
  REQUIRE(cell->runs == 2);
  REQUIRE(cell->images_per_second == Approx(12));
  REQUIRE(cell->images_per_second_se == Approx(2));
  REQUIRE_FALSE(cell->speedup.has_value());  // there is no baseline
}

TEST_CASE("dedicated servers are ranks but not workers") {
  Record three = record("sync-ps", 3, 18);
  three.workers = 2;
  const auto summary = summarise({record("none", 1, 10), record("none", 2, 20), three});
  REQUIRE_OK(summary);
  const auto* cell = summary->find("resnet50", "sync-ps", 3);
  REQUIRE(*cell->efficiency == Approx(0.9));
  REQUIRE(*cell->of_independent == Approx(0.9));
}

TEST_CASE("measured and emulated numbers are never in one table") {
  const auto mixed = summarise({record("ring", 1, 1), record("ring", 1, 1, "emulated")});
  REQUIRE_FALSE(mixed.ok());
  REQUIRE_FALSE(summarise({}).ok());
}
