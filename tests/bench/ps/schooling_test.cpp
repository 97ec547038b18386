// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/schooling.h"

#include <fmt/format.h>

#include <mutex>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/scratch.h"

using namespace dist::bench;
using dist::test::expect;

namespace {

// Three ranks as threads; each opens a world of its own for the training.
std::vector<Schooling> school(const char* variant, const SchoolOptions& options,
                              dist::Options world = {}) {
  const dist::test::ScratchFolder folder;
  std::vector<Schooling> outcomes(3);
  dist::test::run_ranks("shm", 3, [&](dist::World& meeting) {
    auto group = dist::make_group(meeting).value();
    dist::Options own = world;
    own.transport = "tcp";
    own.rank = meeting.rank();
    own.ranks = 3;
    own.job = 7;
    own.rendezvous = "dir:" + folder.path();
    outcomes[static_cast<std::size_t>(own.rank)] =
        run_school(options, variant_named(variant).value(), own, *group).value();
  });
  return outcomes;
}

SchoolOptions short_term() {
  SchoolOptions options;
  options.learner = {.backend = "ref", .batch = 2, .image = 16, .seed = 1};
  options.length = {.steps = 4, .seconds = 0};
  return options;
}

}  // namespace

TEST_CASE("every rank hears of all lessons") {
  const auto outcomes = school("bounded:1", short_term());
  for (const Schooling& outcome : outcomes) {
    REQUIRE(outcome.lessons.size() == 12);
    CHECK(outcome.workers == 3);
    CHECK(outcome.servers == 3);
    CHECK(outcome.learning_rate == dist::test::Approx(0.005 / 3));
    CHECK(outcome.momentum == 0.9);
    CHECK(outcome.bytes_sent > 0);
    CHECK(outcome.dropped == 0);
    for (std::size_t i = 0; i < 12; ++i) {
      CHECK(outcome.lessons[i].loss == outcomes[0].lessons[i].loss);
      CHECK(outcome.lessons[i].loss > 0);
      CHECK(outcome.lessons[i].seconds > 0);
      if (i % 4 != 0) CHECK(outcome.lessons[i].seconds > outcome.lessons[i - 1].seconds);
    }
  }
}

TEST_CASE("sync and ring learn the same, and steps last as long as the delays say") {
  auto options = short_term();
  options.delays.compute_ms = 20;
  const auto sync = school("sync", options)[0];
  const auto ring = school("ring", options)[0];
  REQUIRE(sync.lessons.size() == 12);
  REQUIRE(ring.lessons.size() == 12);
  CHECK(ring.servers == 0);
  for (std::size_t i = 0; i < 12; ++i) CHECK(sync.lessons[i].loss == ring.lessons[i].loss);
  CHECK(sync.lessons[3].seconds >= 0.08);
}

TEST_CASE("by time, with a dedicated server and compression") {
  auto options = short_term();
  options.delays = {.compute_ms = 10, .slow_worker = 3};
  options.length = {.steps = 0, .seconds = 0.2};
  dist::Options world;
  world.placement = dist::Placement::dedicated;
  world.compress_at_least = dist::Bytes(1);
  const auto outcome = school("async+push:int8+momentum:0.5", options, world)[0];
  CHECK(outcome.workers == 2);
  CHECK(outcome.servers == 1);
  CHECK(outcome.momentum == 0.5);
  CHECK(outcome.compression_ms > 0);
  CHECK(outcome.lessons.size() > 4);
  CHECK(outcome.lessons.size() <= 28);
}
