// SPDX-License-Identifier: Apache-2.0
// Workers that run out of data at different steps: means stay means, and all end with the same
// parameters, whatever the strategy.
#include <fmt/format.h>

#include <cstring>
#include <string>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

struct Case {
  std::string name;
  std::string algorithm = "ring";
  Placement placement = Placement::colocated;
  int servers = 0;
  bool shard_optimizer = false;
  bool share_parameters = true;
  int ranks_per_host = 0;
};

// The first is what the others are compared with, to the bit; hierarchical sums in another order.
const std::vector<Case> kCases = {
    {"ring"},
    {"ring", "auto"},
    {"ring", "sweep", Placement::colocated, 0, false, false},
    {"ring", "ring", Placement::colocated, 0, true},
    {"sync-ps"},
    {"sync-ps", "ring", Placement::dedicated, 1},
    {"sync-ps", "ring", Placement::dedicated, 2},
};
const Case kHierarchical{"ring", "hierarchical", Placement::colocated, 0, false, true, 2};

constexpr std::uint64_t kElems = 700;
enum class Values { whole, uneven };

// Multiples of 12 have whole means over one to four contributors.
float gradient(Values values, int worker, std::uint64_t step, std::uint64_t element) {
  const auto mixed = static_cast<float>(
      (element * 7919 + static_cast<std::uint64_t>(worker) * 104729 + step * 31) % 999);
  return values == Values::whole ? 12 * (mixed - 499) : (mixed - 499) / 3;
}

// Different for every worker; worker 1 has none at all.
std::uint64_t batches_of(int worker) {
  return std::vector<std::uint64_t>{3, 0, 6, 4}[static_cast<std::size_t>(worker)];
}

std::vector<float> serial(int workers) {
  std::vector<float> parameters(kElems);
  for (std::uint64_t step = 0; step < 6; ++step) {
    for (std::uint64_t i = 0; i < kElems; ++i) {
      float sum = 0;
      int contributors = 0;
      for (int worker = 0; worker < workers; ++worker) {
        if (step >= batches_of(worker)) continue;
        sum += gradient(Values::whole, worker, step, i);
        ++contributors;
      }
      if (contributors != 0) parameters[i] -= sum / static_cast<float>(contributors);
    }
  }
  return parameters;
}

UpdateRule rule_for(Values values) {
  if (values == Values::whole) return Sgd{.learning_rate = 1};
  return Adam{.learning_rate = 0.1, .weight_decay = 1e-3};  // its bias correction counts steps
}

// In one call, or step by step: others see no difference.
void stop(Strategy& strategy, int worker) {
  if (worker % 2 == 0) return expect_ok(strategy.join());
  while (strategy.stand_by().value()) continue;
}

// What all workers end with.
std::vector<float> train(const std::string& transport, int workers, const Case& chosen,
                         Values values) {
  Options options;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 1_KiB;
  options.segment_bytes = 100_B;
  options.algorithm = chosen.algorithm;
  options.placement = chosen.placement;
  options.servers = chosen.servers;
  options.shard_optimizer = chosen.shard_optimizer;
  options.share_parameters = chosen.share_parameters;
  options.ranks_per_host = chosen.ranks_per_host;
  options.timeout = std::chrono::seconds(30);
  const int ranks = workers + (chosen.placement == Placement::dedicated ? chosen.servers : 0);
  std::vector<std::vector<float>> ends(static_cast<std::size_t>(workers));
  test::run_ranks(
      transport, ranks,
      [&](World& world) {
        auto arena = Arena::create({{"a", Elems(5)}, {"b", Elems(kElems - 5)}}).value();
        const auto strategy = make_strategy(chosen.name, world, arena, rule_for(values)).value();
        expect_ok(strategy->begin());
        const int worker = strategy->worker();
        for (std::uint64_t step = 0; worker >= 0 && step < batches_of(worker); ++step) {
          std::uint64_t element = 0;
          for (const std::size_t p : {0, 1}) {
            for (float& g : arena.gradient_span<float>(p)) {
              g = gradient(values, worker, step, element++);
            }
            strategy->ready(p);
          }
          const auto report = strategy->finish_step().value();
          expect(report.step == step, "step");
        }
        if (worker >= 0) {
          stop(*strategy, worker);
          auto& end = ends[static_cast<std::size_t>(worker)];
          for (const std::size_t p : {0, 1}) {
            const auto span = arena.parameter_span<float>(p);
            end.insert(end.end(), span.begin(), span.end());
          }
        }
        expect_ok(strategy->end());
      },
      options);
  for (const auto& end : ends) {
    expect(std::memcmp(end.data(), ends[0].data(), kElems * sizeof(float)) == 0,
           "workers end with different parameters");
  }
  return ends[0];
}

TEST_CASE("the mean is over the workers that still have data") {
  for (const auto& transport : test::kThreadTransports) {
    for (const int workers : {1, 2, 3, 4}) {
      const auto expected = serial(workers);
      auto cases = kCases;
      if (workers == 4) cases.push_back(kHierarchical);
      for (const Case& chosen : cases) {
        if (chosen.servers > 0 && chosen.servers > workers) continue;
        INFO(fmt::format("{} {} {}, {} workers, {} servers", transport, chosen.name,
                         chosen.algorithm, workers, chosen.servers));
        REQUIRE(train(transport, workers, chosen, Values::whole) == expected);
      }
    }
  }
}

TEST_CASE("with uneven data too, ring and synchronous parameter server have the same bits") {
  for (const int workers : {2, 3, 4}) {
    const auto expected = train("shm", workers, kCases.front(), Values::uneven);
    for (const Case& chosen : kCases) {
      INFO(fmt::format("{} {}, {} workers, {} servers", chosen.name, chosen.algorithm, workers,
                       chosen.servers));
      const auto ends = train("shm", workers, chosen, Values::uneven);
      REQUIRE(std::memcmp(ends.data(), expected.data(), kElems * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("a program that updates parameters itself does so in join() too") {
  test::run_ranks("shm", 2, [](World& world) {
    auto arena = Arena::create({{"a", Elems(1)}}).value();
    const auto strategy = make_strategy("ring", world, arena, MeanGradient{}).value();
    expect_ok(strategy->begin());
    expect(strategy->join().code() == ErrorCode::invalid_argument, "refused");
    expect_ok(strategy->end());
  });
}

TEST_CASE("several strategies of a world stand by side by side, also with borrowed memory") {
  test::run_ranks("shm", 3, [](World& world) {
    std::vector<double> weights(3), gradients(3);
    auto first = Arena::create({{"a", Elems(2)}}).value();
    auto second = Arena::create({borrow("b", std::span(weights), std::span(gradients))}).value();
    const auto a = make_strategy("ring", world, first, Sgd{.learning_rate = 1}).value();
    const auto b = make_strategy("ring", world, second, Sgd{.learning_rate = 1}).value();
    for (Strategy* strategy : {a.get(), b.get()}) expect_ok(strategy->begin());
    for (int step = 0; step < 2 * world.rank(); ++step) {
      for (float& g : first.gradient_span<float>(0)) g = 1;
      gradients.assign(3, 1);
      for (Strategy* strategy : {a.get(), b.get()}) strategy->ready(0);
      for (Strategy* strategy : {a.get(), b.get()}) expect_ok(strategy->finish_step().status());
    }
    for (bool others = true; others;) {
      for (Strategy* strategy : {a.get(), b.get()}) others = strategy->stand_by().value();
    }
    for (Strategy* strategy : {a.get(), b.get()}) expect_ok(strategy->end());
    expect(first.parameter_span<float>(0)[1] == -4, "four steps of rank 2");
    expect(weights == std::vector<double>(3, -4), "and in the program's own memory");
  });
}

TEST_CASE("asynchronous: who has no more data ends with what the others still push") {
  for (const auto& transport : test::kThreadTransports) {
    for (const auto placement : {Placement::colocated, Placement::dedicated}) {
      const Case chosen{"async-ps", "ring", placement, placement == Placement::dedicated ? 2 : 0};
      std::vector<float> sum(kElems);
      for (int worker = 0; worker < 3; ++worker) {
        for (std::uint64_t step = 0; step < batches_of(worker); ++step) {
          for (std::uint64_t i = 0; i < kElems; ++i) {
            sum[i] -= gradient(Values::whole, worker, step, i);
          }
        }
      }
      REQUIRE(train(transport, 3, chosen, Values::whole) == sum);
    }
  }
}

}  // namespace
