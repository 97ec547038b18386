// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/learner.h"

#include "libdist/update.h"
#include "tests/support/catch.h"

using namespace dist::bench;

TEST_CASE("a learner learns, alone") {
  auto learner = Learner::make({.backend = "ref", .batch = 8, .image = 16, .seed = 1}).value();
  const dist::Arena& arena = learner.arena();
  dist::Updater updater(dist::Momentum{.learning_rate = 0.01}, arena.elems(), arena.dtype());
  const dist::Range all{0, arena.elems().value};
  Lesson first;
  Lesson last;
  for (std::uint64_t step = 0; step < 120; ++step) {
    last = learner.study(step, 0, 1);
    if (step == 0) first = last;
    updater.apply(arena.parameters(all), arena.gradients(all), 0, {});
  }
  CHECK(first.loss > 2);
  CHECK(first.accuracy < 0.6);
  CHECK(last.loss < 0.5);
  CHECK(last.accuracy > 0.8);
}

TEST_CASE("the same seed, the same lesson; another worker or step, another one") {
  const auto loss = [](std::uint64_t seed, std::uint64_t step, int worker) {
    auto learner = Learner::make({.backend = "ref", .batch = 2, .image = 16, .seed = seed}).value();
    return learner.study(step, worker, 3).loss;
  };
  CHECK(loss(1, 4, 2) == loss(1, 4, 2));
  CHECK(loss(1, 4, 2) != loss(2, 4, 2));
  CHECK(loss(1, 4, 2) != loss(1, 5, 2));
  CHECK(loss(1, 4, 2) != loss(1, 4, 1));
}

TEST_CASE("what cannot be made is refused") {
  CHECK_FALSE(Learner::make({.backend = "nonsense"}).ok());
  CHECK_FALSE(Learner::make({.backend = "ref", .image = 2}).ok());
}
