// SPDX-License-Identifier: Apache-2.0
// What every strategy promises, checked against one serial reference to the bit: by the reference
// ring and synchronous parameter server also equal each other. [threads]: ranks as threads over shm
// and tcp; [shm], [tcp], [mpi]: this program started by distrun or mpirun.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
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
  int ranks_per_host = 0;
};

const std::vector<Case> kCases = {
    {"ring"},
    {"ring", Placement::colocated, 0, "auto"},
    {"ring", Placement::colocated, 0, "sweep", false},
    {"ring", Placement::colocated, 0, "ring", true, true},
    {"sync-ps"},
    {"sync-ps", Placement::colocated, 0, "ring", false},  // by messages, also within a host
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
  options.ranks_per_host = chosen.ranks_per_host;
  options.staleness = 0;
  options.timeout = std::chrono::seconds(20);
  return options;
}

std::vector<Parameter> parameter_list(DType dtype) {
  std::vector<Parameter> list;
  for (const std::uint64_t elems : {5, 1, 1, 37, 300, 3, 64, 1}) {
    const auto name = fmt::format("p{}", list.size());
    list.push_back({name, Elems(elems), dtype, list.size() % 3 != 1});
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
  Reference(const Arena& arena, const Options& options, const Update& update, int workers)
      : buckets_(make_buckets(arena, {options.bucket_bytes, options.first_bucket_bytes})),
        updater_(Updater::create(update, layout_of(arena), arena.dtype()).value()),
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
    const auto parameters = std::as_writable_bytes(std::span(parameters_));
    const auto sums = std::as_bytes(std::span(sums_));
    std::vector<double> squares(updater_.square_count(), 0);
    updater_.add_squares(parameters, sums, 0, squares);
    updater_.apply(parameters, sums, 0, {1.0 / workers_, step, squares});
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

// To the bit; but where a norm is summed over shards, to 1e-6.
template <typename T>
bool equal(const Arena& arena, Range range, const std::vector<T>& expected, bool to_the_bit) {
  const auto bytes = arena.parameters(range);
  if (to_the_bit) {
    return std::memcmp(bytes.data(), expected.data() + range.begin, bytes.size()) == 0;
  }
  const auto* values = reinterpret_cast<const T*>(bytes.data());
  for (std::uint64_t i = 0; i < range.elems(); ++i) {
    const T wanted = expected[range.begin + i];
    if (!(std::abs(values[i] - wanted) <= 1e-6 * std::max<T>(1, std::abs(wanted)))) return false;
  }
  return true;
}

// Returns the parameters after the last step; nothing on a rank that only serves.
template <typename T>
std::vector<T> train(World& world, const std::string& name, const Update& update, Values values,
                     std::vector<Parameter> list) {
  auto arena = Arena::create(std::move(list)).value();
  auto strategy = make_strategy(name, world, arena, update).value();
  expect(strategy->name() == name, "name()");
  Reference<T> reference(arena, world.options(), update, strategy->workers());
  const auto expect_equal = [&](Range range, const std::string& when) {
    expect(equal(arena, range, reference.parameters(), !needs_norms(update)),
           "{}, {}: the parameters differ from the serial reference", name_of(update.rule), when);
  };
  const Range whole{0, arena.elems().value};
  std::vector<T> last;
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
    expect_equal(whole, "after begin()");
    for (std::uint64_t step = 0; step < 4; ++step) {
      backward<T>(*strategy, arena, values, step);
      reference.step(values, step);
      // Every other step as an overlapped forward pass would: each parameter when it is needed.
      for (std::size_t p = arena.parameter_count(); step % 2 == 1 && p-- > 0;) {
        expect_ok(strategy->await(p));
        expect_equal(arena.range(p), fmt::format("await({})", p));
      }
      const auto report = strategy->finish_step();
      expect_ok(report.status());
      expect(report->step == step, "StepReport::step");
      expect(report->staleness == 0, "StepReport::staleness");
      expect_equal(whole, fmt::format("step {}", step));
    }
    const auto* values_now = reinterpret_cast<const T*>(arena.parameters(whole).data());
    last.assign(values_now, values_now + whole.elems());
  }
  expect_ok(strategy->end());
  return last;
}

void train_all(World& world, const std::string& name) {
  const Momentum momentum{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3};
  const Nesterov nesterov{.learning_rate = 0.25, .momentum = 0.5};
  train<float>(world, name, Sgd{.learning_rate = 1}, Values::integers, parameter_list(DType::f32));
  train<float>(world, name, momentum, Values::uneven, parameter_list(DType::f32));
  train<double>(world, name, nesterov, Values::uneven, parameter_list(DType::f64));
  train<float>(world, name, momentum, Values::uneven, {{"alone", Elems(1)}});
  if (world.ranks() > 1) return;
  train<double>(world, name, Lars{.weight_decay = 1e-3}, Values::uneven,
                parameter_list(DType::f64));
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

// The rules that need no norm, with weight decay and a learning rate that changes.
std::vector<Update> elementwise_updates() {
  std::vector<Update> updates;
  for (const auto name : update_rule_names()) {
    if (name == "lars") continue;
    Update update = make_update_rule(name, 0.1).value();
    set_weight_decay(update.rule, 1e-3);
    update.schedule = {CosineDecay{.total_steps = 6}, 2};
    updates.push_back(update);
  }
  return updates;
}

TEST_CASE("every rule ends with the serial reference's bits, however it is placed", "[threads]") {
  auto cases = kCases;
  cases.push_back({"sync-ps", Placement::colocated, 2});
  cases.push_back({"sync-ps", Placement::colocated, 3});
  for (const int ranks : {2, 3, 4}) {
    for (const Case& chosen : cases) {
      if (!fits(chosen, ranks)) continue;
      INFO(describe(chosen, "shm", ranks));
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", ranks,
          [&](World& world) {
            for (const Update& update : elementwise_updates()) {
              train<float>(world, chosen.name, update, Values::uneven, parameter_list(DType::f32));
            }
          },
          options_for(chosen)));
    }
  }
}

// Norms over parameters, and over all of them.
std::vector<Update> updates_by_norm() {
  Update clipped = Adam{.learning_rate = 0.01, .weight_decay = 1e-3};
  clipped.clip_norm = 0.5;
  Update lars = Lars{.learning_rate = 0.5, .weight_decay = 1e-3, .trust = 0.02};
  Update both = lars;
  both.clip_norm = 10;
  return {clipped, lars, both};
}

// One parameter is large enough to be split over servers.
void take_norms(const Case& chosen, const std::string& transport, int workers) {
  const int ranks = chosen.placement == Placement::dedicated ? workers + chosen.servers : workers;
  if (!fits(chosen, ranks) || (chosen.ranks_per_host > 0 && ranks != 4)) return;
  INFO(describe(chosen, transport, ranks));
  auto list = parameter_list(DType::f64);
  list[4].elements = Elems(9001);
  for (const Update& update : updates_by_norm()) {
    std::vector<std::vector<double>> last(static_cast<std::size_t>(ranks));
    REQUIRE_NOTHROW(test::run_ranks(
        transport, ranks,
        [&](World& world) {
          last[static_cast<std::size_t>(world.rank())] =
              train<double>(world, chosen.name, update, Values::uneven, list);
        },
        options_for(chosen)));
    for (const auto& parameters : last) {
      REQUIRE((parameters.empty() || parameters == last.front()));
    }
  }
}

TEST_CASE("clipping and lars take the norms of the whole gradient", "[threads]") {
  auto cases = kCases;
  cases.push_back({"ring", Placement::colocated, 0, "hierarchical", true, false, 2});
  cases.push_back({"sync-ps", Placement::colocated, 2});
  cases.push_back({"sync-ps", Placement::colocated, 3, "ring", false});
  cases.push_back({"sync-ps", Placement::dedicated, 3});
  for (const int workers : {1, 2, 3, 4}) {
    for (const Case& chosen : cases) take_norms(chosen, "shm", workers);
  }
  take_norms({"sync-ps"}, "tcp", 3);
  take_norms({"sync-ps", Placement::dedicated, 2}, "tcp", 3);
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
           "{}", made.status().message());
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
