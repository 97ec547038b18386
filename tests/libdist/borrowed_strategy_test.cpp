// SPDX-License-Identifier: Apache-2.0
// Loops with an optimizer or memory of their own: the mean gradient by every algorithm, parameters
// and gradients outside the arena, several strategies at once, nothing left behind.
#include "libdist/borrowed_strategy.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/threads.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

Options options_of(const std::string& algorithm, int ranks_per_host = 0) {
  Options options;
  options.algorithm = algorithm;
  options.ranks_per_host = ranks_per_host;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 128_B;
  options.timeout = std::chrono::seconds(60);
  return options;
}

// What the ranks 0 .. ranks - 1 contribute to element i in a step: integers with an exact mean.
float gradient(int rank, int ranks, std::size_t step, std::size_t i) {
  return static_cast<float>(ranks * (rank + 1)) * static_cast<float>(step + i + 1);
}
float mean_gradient(int ranks, std::size_t step, std::size_t i) {
  return static_cast<float>(ranks * (ranks + 1) / 2) * static_cast<float>(step + i + 1);
}

void train_own_optimizer(World& world, const std::string& what) {
  const int ranks = world.ranks();
  auto arena = Arena::create({{"a", Elems(5)}, {"b", Elems(40)}, {"c", Elems(3)}}).value();
  auto strategy = make_strategy("ring", world, arena, MeanGradient{}).value();
  for (float& p : arena.parameter_span<float>(1)) p = static_cast<float>(world.rank() + 7);
  expect_ok(strategy->begin());
  for (const float p : arena.parameter_span<float>(1)) expect(p == 7, "{}: begin()", what);
  for (std::size_t step = 0; step < 3; ++step) {
    for (std::size_t p = 0; p < 3; ++p) {
      const auto span = arena.gradient_span<float>(p);
      for (std::size_t i = 0; i < span.size(); ++i) {
        span[i] = gradient(world.rank(), ranks, step, i);
      }
      strategy->ready(p);
    }
    if (step == 1) expect_ok(strategy->await(1));
    expect_ok(strategy->finish_step().status());
    for (std::size_t p = 0; p < 3; ++p) {
      const auto span = arena.gradient_span<float>(p);
      for (std::size_t i = 0; i < span.size(); ++i) {
        expect(span[i] == mean_gradient(ranks, step, i), "{}: the mean", what);
      }
    }
    // Each rank its own update: nobody else may see it.
    for (float& p : arena.parameter_span<float>(1)) p -= 1;
    for (const float p : arena.parameter_span<float>(1)) {
      expect(p == 6 - static_cast<float>(step), "{}: the parameters are the program's", what);
    }
  }
  expect_ok(strategy->end());
  expect(arena.parameter_span<float>(1)[0] == 4, "{}: after end()", what);
}

TEST_CASE("mean-gradient: by every algorithm the mean on every rank, parameters untouched") {
  struct Case {
    std::string algorithm;
    int ranks;
    int ranks_per_host;
  };
  const std::vector<Case> cases = {{"ring", 1, 0},  {"ring", 3, 0},         {"sweep", 2, 0},
                                   {"sweep", 4, 0}, {"hierarchical", 4, 2}, {"auto", 3, 0}};
  for (const auto& chosen : cases) {
    INFO(chosen.algorithm << ", " << chosen.ranks << " ranks");
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", chosen.ranks, [&](World& world) { train_own_optimizer(world, chosen.algorithm); },
        options_of(chosen.algorithm, chosen.ranks_per_host)));
  }
}

TEST_CASE("mean-gradient is refused where the update is not the program's to make") {
  auto world = World::open({}).value();
  auto arena = Arena::create({{"a", Elems(1)}}).value();
  for (const std::string name : {"sync-ps", "async-ps"}) {
    const auto refused = make_strategy(name, world, arena, MeanGradient{}).status();
    CHECK(refused.code() == ErrorCode::invalid_argument);
    CHECK(refused.message().find("it happens at the server") != std::string::npos);
  }
  Options sharded;
  sharded.shard_optimizer = true;
  auto other = World::open(sharded).value();
  CHECK(make_strategy("ring", other, arena, MeanGradient{})
            .status()
            .message()
            .find("shard-optimizer") != std::string::npos);
  REQUIRE_OK(make_strategy("none", world, arena, MeanGradient{}));
}

// One replica outside the arena, but for the gradient of `c`.
struct Outside {
  std::vector<float> a = std::vector<float>(5), b = std::vector<float>(70);
  std::vector<float> da = std::vector<float>(5), db = std::vector<float>(70);
  std::vector<float> c = std::vector<float>(3);

  std::vector<Parameter> parameters() {
    return {borrow("a", std::span(a), std::span(da)),
            borrow("b", std::span(b), std::span(db)),
            {.name = "c", .elements = Elems(3), .own_parameters = c.data()}};
  }
};

void train_outside(World& world, const std::string& name, const UpdateRule& rule) {
  const int ranks = world.ranks();
  Outside own;
  own.b.assign(70, static_cast<float>(100 + world.rank()));
  auto arena = Arena::create(own.parameters()).value();
  auto strategy = make_strategy(name, world, arena, rule).value();
  expect(strategy->name() == name && strategy->workers() == ranks, "name and workers");
  expect_ok(strategy->begin());
  expect(own.b == std::vector<float>(70, 100), "begin() changes memory outside the arena");
  for (std::size_t step = 0; step < 3; ++step) {
    own.da.assign(5, gradient(world.rank(), ranks, step, 0));
    own.db.assign(70, gradient(world.rank(), ranks, step, 1));
    for (float& g : arena.gradient_span<float>(2)) g = gradient(world.rank(), ranks, step, 2);
    for (const std::size_t p : {2, 0, 1}) strategy->ready(p);
    const float before = own.a[0];
    expect_ok(strategy->await(0));
    const float mean = mean_gradient(ranks, step, 0);
    if (updates_parameters(rule)) {
      expect(own.a[4] == before - mean, "await() brings the parameter");
      expect(own.da[0] == gradient(world.rank(), ranks, step, 0), "gradients stay as they were");
      own.a[4] = 1e9f;  // the program may go on with it: finish_step() does not bring it again
    } else {
      expect(own.da[4] == mean && own.a[0] == before, "await() brings the mean");
    }
    expect_ok(strategy->finish_step().status());
    if (updates_parameters(rule)) expect(own.a[4] == 1e9f, "finish_step() copied twice");
  }
  const float sum =
      mean_gradient(ranks, 0, 1) + mean_gradient(ranks, 1, 1) + mean_gradient(ranks, 2, 1);
  const float end = updates_parameters(rule) ? 100 - sum : 100;
  expect(own.b == std::vector<float>(70, end), "parameters after three steps");
  expect_ok(strategy->end());
}

TEST_CASE("parameters and gradients outside the arena: every strategy") {
  for (const std::string name : {"ring", "sync-ps", "none"}) {
    for (const std::string algorithm : {"auto", "ring"}) {
      INFO(name << " " << algorithm);
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", name == "none" ? 1 : 3,
          [&](World& world) {
            train_outside(world, name, Sgd{.learning_rate = 1});
            if (name != "sync-ps") train_outside(world, name, MeanGradient{});
          },
          options_of(algorithm)));
    }
  }
  Options options;
  options.staleness = 0;
  REQUIRE_NOTHROW(test::run_ranks(
      "tcp", 2,
      [](World& world) {
        train_outside(world, "ring", MeanGradient{});
        train_outside(world, "async-ps", Sgd{.learning_rate = 1});
      },
      options));
}

// Rank r has r + 1 batches; a program's own update counts the means it was given.
void train_uneven(World& world) {
  std::vector<float> weights(40), gradients(40);
  auto arena = Arena::create({borrow("w", std::span(weights), std::span(gradients))}).value();
  auto ring = make_strategy("ring", world, arena, MeanGradient{}).value();
  expect_ok(ring->begin());
  const auto update = [&] {
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= gradients[i];
  };
  for (int step = 0; step <= world.rank(); ++step) {
    gradients.assign(40, static_cast<float>(6 * world.rank()));
    ring->ready(0);
    expect_ok(ring->finish_step().status());
    update();
  }
  expect(ring->join().message().find("the program's update") != std::string::npos, "join()");
  expect_ok(ring->join(update));
  // Means over ranks 0..2, 1..2 and 2 alone: 6, 9 and 12.
  expect(weights == std::vector<float>(40, -27), "the joined replicas");
  expect_ok(ring->end());
}

TEST_CASE("uneven data: the program's update goes on in join()") {
  for (const std::string algorithm : {"auto", "ring"}) {
    INFO(algorithm);
    REQUIRE_NOTHROW(test::run_ranks("shm", 3, train_uneven, options_of(algorithm)));
  }
  REQUIRE_NOTHROW(test::run_ranks("shm", 2, [](World& world) {
    Outside own;
    auto arena = Arena::create(own.parameters()).value();
    auto ring = make_strategy("ring", world, arena, Sgd{.learning_rate = 1}).value();
    expect_ok(ring->begin());
    if (world.rank() == 0) {
      own.db.assign(70, 5);
      for (const std::size_t p : {0, 1, 2}) ring->ready(p);
      expect_ok(ring->finish_step().status());
    }
    expect_ok(ring->join());
    expect(own.b == std::vector<float>(70, -5), "join() brings the parameters");
    expect_ok(ring->end());
  }));
}

TEST_CASE("a checkpoint holds the program's parameters, whoever updates them") {
  const auto directory =
      std::filesystem::temp_directory_path() / ("borrowed-" + std::to_string(getpid()));
  for (const UpdateRule& rule : {UpdateRule(MeanGradient{}), UpdateRule(Momentum{})}) {
    for (const std::string algorithm : {"auto", "ring"}) {
      INFO(name_of(rule) << ", " << algorithm);
      for (const bool resume : {false, true}) {
        REQUIRE_NOTHROW(test::run_ranks(
            "shm", 2,
            [&](World& world) {
              Outside own;
              auto arena = Arena::create(own.parameters()).value();
              auto all = make_group(world).value();
              auto checkpoints =
                  Checkpoints::open(*all, arena, name_of(rule),
                                    {.directory = directory.string(), .resume = resume})
                      .value();
              auto ring = make_strategy("ring", world, arena, rule).value();
              checkpoints->attach(*ring);
              expect_ok(ring->begin());
              if (resume) {
                expect(own.b == std::vector<float>(70, 8), "begin() brings the saved parameters");
              } else {
                for (const std::size_t p : {0, 1, 2}) ring->ready(p);
                expect_ok(ring->finish_step().status());
                own.b.assign(70, 8);  // the program's update
                if (updates_parameters(rule)) {
                  for (float& p : arena.parameter_span<float>(1)) p = 8;
                }
                expect_ok(checkpoints->save(*ring));
              }
              expect_ok(ring->end());
              expect_ok(checkpoints->wait());
            },
            options_of(algorithm)));
      }
      std::filesystem::remove_all(directory);
    }
  }
}

TEST_CASE("several strategies in one world, step by step") {
  for (const std::string algorithm : {"auto", "ring"}) {
    INFO(algorithm);
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 3,
        [](World& world) {
          std::vector<Arena> arenas;
          std::vector<std::unique_ptr<Strategy>> strategies;
          for (const std::string name : {"generator", "discriminator"}) {
            arenas.push_back(Arena::create({{name, Elems(100)}}).value());
          }
          for (Arena& arena : arenas) {
            strategies.push_back(
                make_strategy("ring", world, arena, Sgd{.learning_rate = 1}).value());
            expect_ok(strategies.back()->begin());
          }
          for (int step = 0; step < 3; ++step) {
            for (std::size_t s = 0; s < 2; ++s) {
              for (float& g : arenas[s].gradient_span<float>(0)) g = static_cast<float>(s + 1);
              strategies[s]->ready(0);
            }
            for (const auto& strategy : strategies) expect_ok(strategy->finish_step().status());
          }
          for (const auto& strategy : strategies) expect_ok(strategy->end());
          expect(arenas[0].parameter_span<float>(0)[99] == -3, "the first network");
          expect(arenas[1].parameter_span<float>(0)[99] == -6, "the second network");
        },
        options_of(algorithm)));
  }
}

std::size_t open_files() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

std::vector<void (*)(int)> signal_handlers() {
  std::vector<void (*)(int)> handlers;
  for (int signal = 1; signal < 32; ++signal) {
    struct sigaction action = {};
    sigaction(signal, nullptr, &action);
    handlers.push_back(action.sa_handler);
  }
  return handlers;
}

TEST_CASE("after the last world nothing of the library is left in the process") {
  const auto train = [] {
    test::run_ranks("tcp", 2, [](World& world) { train_own_optimizer(world, "tcp"); });
    test::run_ranks("shm", 3,
                    [](World& world) { train_outside(world, "sync-ps", Sgd{.learning_rate = 1}); });
  };
  const auto handlers_before = signal_handlers();
  const auto threads_before = test::count_threads();
  train();  // what the C library opens once stays open
  const auto files_before = open_files();
  train();
  CHECK(test::count_threads() == threads_before);
  CHECK(open_files() == files_before);
  CHECK(signal_handlers() == handlers_before);
}

}  // namespace
