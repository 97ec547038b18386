// SPDX-License-Identifier: Apache-2.0
// What every strategy promises, checked against one serial reference to the bit: by the reference
// ring and synchronous parameter server also equal each other. [threads]: ranks as threads over shm
// and tcp; [shm], [tcp], [mpi]: this program started by distrun or mpirun.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "libdist/bucket/bucket.h"
#include "libdist/dist.h"
#include "libdist/plan.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

// A strategy that sums all workers' gradients in the order of plan.h, with the options that make it
// so.
struct Case {
  std::string name;
  Placement placement = Placement::colocated;
  int servers = 0;
  std::string algorithm = "ring";
  bool share_parameters = true;
  bool shard_optimizer = false;
};

const std::vector<Case> kCases = {
    {"ring"},
    {"ring", Placement::colocated, 0, "auto"},
    {"ring", Placement::colocated, 0, "sweep", false},
    {"ring", Placement::colocated, 0, "ring", true, true},
    {"sync-ps"},
    {"sync-ps", Placement::colocated, 1},
    {"sync-ps", Placement::dedicated, 1},
    {"sync-ps", Placement::dedicated, 2},
    {"async-ps"},  // with staleness 0
};

std::string describe(const Case& chosen, const std::string& transport, int ranks) {
  return fmt::format("{} {}{}, {} servers, {}, {} ranks", chosen.name, chosen.algorithm,
                     chosen.placement == Placement::dedicated ? " dedicated" : "", chosen.servers,
                     transport, ranks);
}

// Needs at least one worker beside the dedicated servers.
bool fits(const Case& chosen, int ranks) {
  return chosen.servers <= (chosen.placement == Placement::dedicated ? ranks - 1 : ranks);
}

Options options_for(const Case& chosen) {
  Options options;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 256_B;
  options.segment_bytes = 48_B;
  options.placement = chosen.placement;
  options.servers = chosen.servers;
  options.algorithm = chosen.algorithm;
  options.share_parameters = chosen.share_parameters;
  options.shard_optimizer = chosen.shard_optimizer;
  options.staleness = 0;
  options.timeout = std::chrono::seconds(20);
  return options;
}

std::vector<Parameter> parameter_list(DType dtype) {
  std::vector<Parameter> list;
  for (const std::uint64_t elems : {5, 1, 1, 37, 300, 3, 64, 1}) {
    list.push_back({fmt::format("p{}", list.size()), Elems(elems), dtype});
  }
  return list;
}

// Gradients that all ranks can compute for all workers. Integers, or numbers whose sum depends on
// the order.
enum class Values { integers, uneven };

template <typename T>
T gradient(Values values, int worker, std::uint64_t step, std::uint64_t element) {
  const auto mixed =
      (element * 7919 + static_cast<std::uint64_t>(worker) * 104729 + step * 31) % 999;
  const auto integer = static_cast<T>(mixed) - 499;
  return values == Values::integers ? integer : integer / 3 * (element % 3 == 0 ? T(1e-3) : T(1e3));
}

// Serial training: sums in the order of plan.h, then one update of the whole arena.
template <typename T>
class Reference {
 public:
  Reference(const Arena& arena, const Options& options, UpdateRule rule, int workers)
      : buckets_(make_buckets(arena, {options.bucket_bytes, options.first_bucket_bytes})),
        updater_(rule, arena.elems(), arena.dtype()),
        workers_(workers),
        used_(arena.elems().value, false),
        parameters_(arena.elems().value),
        sums_(arena.elems().value) {
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      for (auto i = arena.range(p).begin; i < arena.range(p).end; ++i) {
        used_[i] = true;
        parameters_[i] = static_cast<T>(i) / 4;
      }
    }
  }

  const std::vector<T>& parameters() const { return parameters_; }

  void step(Values values, std::uint64_t step) {
    for (const Bucket& bucket : buckets_) {
      for (int c = 0; c < workers_; ++c) {
        const Range chunk = chunk_range(bucket.range, workers_, c);
        for (auto i = chunk.begin; i < chunk.end; ++i) sums_[i] = sum(values, step, i, c);
      }
    }
    updater_.apply(std::as_writable_bytes(std::span(parameters_)), std::as_bytes(std::span(sums_)),
                   0, 1.0 / workers_);
  }

 private:
  T sum(Values values, std::uint64_t step, std::uint64_t element, int chunk) const {
    if (!used_[element]) return 0;
    T total = gradient<T>(values, first_summand(chunk), step, element);
    for (int k = 1; k < workers_; ++k) {
      total += gradient<T>(values, (first_summand(chunk) + k) % workers_, step, element);
    }
    return total;
  }

  std::vector<Bucket> buckets_;
  Updater updater_;
  int workers_;
  std::vector<bool> used_;
  std::vector<T> parameters_;
  std::vector<T> sums_;
};

// One backward pass; every rank finishes its gradients in another order.
template <typename T>
void backward(Strategy& strategy, const Arena& arena, Values values, std::uint64_t step) {
  const auto n = arena.parameter_count();
  for (std::size_t k = 0; k < n; ++k) {
    const auto p = (k * 3 + step + static_cast<std::size_t>(strategy.worker())) % n;
    const auto span = arena.gradient_span<T>(p);
    for (std::size_t i = 0; i < span.size(); ++i) {
      span[i] = gradient<T>(values, strategy.worker(), step, arena.range(p).begin + i);
    }
    strategy.ready(p);
  }
}

template <typename T>
void expect_equal(const Arena& arena, Range range, const std::vector<T>& expected,
                  const std::string& when) {
  const auto bytes = arena.parameters(range);
  expect(std::memcmp(bytes.data(), expected.data() + range.begin, bytes.size()) == 0,
         when + ": the parameters differ from the serial reference");
}

template <typename T>
void expect_equal(const Arena& arena, const std::vector<T>& expected, const std::string& when) {
  expect_equal(arena, {0, arena.elems().value}, expected, when);
}

template <typename T>
void train(World& world, const std::string& name, UpdateRule rule, Values values,
           std::vector<Parameter> list) {
  auto arena = Arena::create(std::move(list)).value();
  auto strategy = make_strategy(name, world, arena, rule).value();
  expect(strategy->name() == name, "name()");
  Reference<T> reference(arena, world.options(), rule, strategy->workers());
  // Only worker 0's initial values count.
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    const auto span = arena.parameter_span<T>(p);
    for (std::size_t i = 0; i < span.size(); ++i) {
      const auto wrong = static_cast<T>(strategy->worker());
      span[i] = static_cast<T>(arena.range(p).begin + i) / 4 + wrong;
    }
  }
  expect_ok(strategy->begin());
  if (strategy->worker() >= 0) {
    expect_equal(arena, reference.parameters(), "after begin()");
    for (std::uint64_t step = 0; step < 4; ++step) {
      backward<T>(*strategy, arena, values, step);
      reference.step(values, step);
      // Every other step as an overlapped forward pass would: each parameter when it is needed.
      for (std::size_t p = arena.parameter_count(); step % 2 == 1 && p-- > 0;) {
        expect_ok(strategy->await(p));
        expect_equal(arena, arena.range(p), reference.parameters(), fmt::format("await({})", p));
      }
      const auto report = strategy->finish_step();
      expect_ok(report.status());
      expect(report->step == step, "StepReport::step");
      expect(report->staleness == 0, "StepReport::staleness");
      expect_equal(arena, reference.parameters(), fmt::format("step {}", step));
    }
  }
  expect_ok(strategy->end());
}

void train_all(World& world, const std::string& name) {
  const Momentum momentum{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3};
  const Nesterov nesterov{.learning_rate = 0.25, .momentum = 0.5};
  train<float>(world, name, Sgd{.learning_rate = 1}, Values::integers, parameter_list(DType::f32));
  train<float>(world, name, momentum, Values::uneven, parameter_list(DType::f32));
  train<double>(world, name, nesterov, Values::uneven, parameter_list(DType::f64));
  train<float>(world, name, momentum, Values::uneven, {{"alone", Elems(1)}});
}

// Runs `body` as threads for every case that fits.
template <typename Body>
void for_each_case(const std::vector<int>& rank_counts, const Body& body) {
  for (const auto& transport : test::kThreadTransports) {
    for (const int ranks : rank_counts) {
      for (const Case& chosen : kCases) {
        if (!fits(chosen, ranks)) continue;
        INFO(describe(chosen, transport, ranks));
        body(transport, ranks, chosen);
      }
    }
  }
}

TEST_CASE("every step ends with the serial reference's bits on every rank", "[threads]") {
  for_each_case(test::kRankCounts, [](const std::string& transport, int ranks, const Case& chosen) {
    REQUIRE_NOTHROW(test::run_ranks(
        transport, ranks, [&](World& world) { train_all(world, chosen.name); },
        options_for(chosen)));
  });
}

TEST_CASE("one rank is the strategy none", "[threads]") {
  for (const Case& chosen : kCases) {
    if (!fits(chosen, 1)) continue;
    INFO(describe(chosen, "shm", 1));
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 1,
        [&](World& world) {
          train_all(world, chosen.name);
          train_all(world, "none");
        },
        options_for(chosen)));
  }
}

TEST_CASE("a strategy outlives a move of its world", "[threads]") {
  for (const auto* name : {"ring", "sync-ps", "async-ps", "none"}) {
    INFO(name);
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 2,
        [&](World& world) {
          auto arena = Arena::create({{"a", Elems(10)}}).value();
          auto strategy = make_strategy(name, world, arena, Sgd{.learning_rate = 1}).value();
          World moved = std::move(world);
          expect_ok(strategy->begin());
          for (float& g : arena.gradient_span<float>(0)) g = 2;
          strategy->ready(0);
          expect_ok(strategy->finish_step().status());
          expect(arena.parameter_span<float>(0)[9] == -2, "the parameter after one step");
          expect_ok(strategy->end());
          strategy.reset();
        },
        options_for({name})));
  }
}

TEST_CASE("ranks whose layouts differ are refused", "[threads]") {
  for_each_case({2, 3}, [](const std::string& transport, int ranks, const Case& chosen) {
    std::atomic<int> refused{0};
    std::atomic<int> explained{0};
    auto options = options_for(chosen);
    options.timeout = std::chrono::seconds(5);
    REQUIRE_NOTHROW(test::run_ranks(
        transport, ranks,
        [&](World& world) {
          auto list = parameter_list(DType::f32);
          if (world.rank() == 1) std::swap(list[3], list[4]);
          auto arena = Arena::create(std::move(list)).value();
          auto strategy = make_strategy(chosen.name, world, arena, Sgd{}).value();
          auto outcome = strategy->begin();
          // A rank that only serves hears of it when it serves.
          if (outcome.ok() && strategy->worker() < 0) outcome = strategy->end();
          refused += outcome.ok() ? 0 : 1;
          explained += outcome.message().find("layout") != std::string::npos ? 1 : 0;
        },
        options));
    REQUIRE(refused == ranks);
    REQUIRE(explained >= 1);
  });
}

TEST_CASE("a rank that leaves ends the step of the others, and is named", "[threads]") {
  for_each_case({2, 3, 5}, [](const std::string& transport, int ranks, const Case& chosen) {
    std::atomic<int> failed{0};
    std::atomic<int> named{0};
    REQUIRE_NOTHROW(test::run_ranks(
        transport, ranks,
        [&](World& world) {
          auto arena = Arena::create(parameter_list(DType::f32)).value();
          auto strategy = make_strategy(chosen.name, world, arena, Sgd{}).value();
          // The others may still be in begin() when rank 0 goes.
          Status outcome = strategy->begin();
          if (world.rank() == 0) return expect_ok(outcome);  // gone without end()
          if (outcome.ok() && strategy->worker() < 0) {
            outcome = strategy->end();
          } else if (outcome.ok()) {
            backward<float>(*strategy, arena, Values::integers, 0);
            outcome = strategy->finish_step().status();
          }
          // Noticed, not waited for.
          failed += outcome.ok() || outcome.code() == ErrorCode::timed_out ? 0 : 1;
          named += outcome.message().find("rank 0") != std::string::npos ? 1 : 0;
        },
        options_for(chosen)));
    REQUIRE(failed == ranks - 1);
    REQUIRE(named >= 1);
  });
}

TEST_CASE("an unknown strategy lists the valid ones", "[threads]") {
  test::run_ranks("shm", 1, [](World& world) {
    auto arena = Arena::create({{"a", Elems(1)}}).value();
    const auto made = make_strategy("rong", world, arena, Sgd{});
    expect(!made.ok() && made.status().message() ==
                             "strategy 'rong' is unknown; valid: ring, sync-ps, async-ps, none",
           made.status().message());
  });
}

void train_process(const std::string& transport) {
  auto options = Options::from_environment().value();
  const auto tiny = options_for({"ring"});
  options.transport = transport;
  options.first_bucket_bytes = tiny.first_bucket_bytes;
  options.bucket_bytes = tiny.bucket_bytes;
  options.segment_bytes = tiny.segment_bytes;
  options.staleness = tiny.staleness;
  options.timeout = tiny.timeout;
  auto world = World::open(std::move(options)).value();
  for (const auto* name : {"ring", "sync-ps", "async-ps"}) {
    INFO(name << " over " << world.transport_name());
    REQUIRE_NOTHROW(train_all(world, name));
  }
  REQUIRE_OK(make_group(world).value()->barrier());
}

TEST_CASE("the same bits on every process over shm", "[shm]") { train_process("shm"); }
TEST_CASE("the same bits on every process over tcp", "[tcp]") { train_process("tcp"); }
TEST_CASE("the same bits on every process over MPI", "[mpi]") { train_process("mpi"); }

}  // namespace
