// SPDX-License-Identifier: Apache-2.0
// small_cnn really learns the learnable data, on images it has never seen; and not the random ones.
#include "examples/data/synthetic.h"
#include "examples/models/models.h"
#include "libdist/update.h"
#include "tests/examples/replica.h"
#include "tests/support/catch.h"

using namespace nn;

namespace {

// The evaluation loss on fresh samples after `steps` steps; ln 10 = 2.303 is guessing.
double loss_after(data::Kind kind, std::uint64_t steps) {
  constexpr std::int64_t kBatch = 32;
  const Graph graph = models::make_model("small_cnn").value();
  const test::Replica replica = test::make_replica("ref", graph, {.batch = kBatch});
  replica->initialize(1);
  const data::Synthetic data(kind, graph.input_shape(), graph.classes(), 1);
  const dist::Arena& arena = replica.arena;
  dist::Updater updater(dist::Momentum{.learning_rate = 0.01}, arena.elems(), arena.dtype());
  const dist::Range all{0, arena.elems().value};
  for (std::uint64_t step = 0; step < steps; ++step) {
    replica->forward(data.batch(step, kBatch).batch(), Mode::train);
    replica->backward([](std::size_t) {});
    updater.apply(arena.parameters(all), arena.gradients(all), 0, {});
  }
  double sum = 0;
  for (std::uint64_t i = 0; i < 4; ++i) {
    sum += replica->forward(data.batch(1000 + i, kBatch).batch(), Mode::evaluate);
  }
  return sum / 4;
}

}  // namespace

TEST_CASE("small_cnn learns the learnable data") {
  CHECK(loss_after(data::Kind::learnable, 0) > 2.0);
  CHECK(loss_after(data::Kind::learnable, 100) < 0.5);
}

TEST_CASE("nothing is to be learnt from random data") {
  CHECK(loss_after(data::Kind::random, 40) > 2.2);
}
