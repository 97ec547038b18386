// SPDX-License-Identifier: Apache-2.0
#include "ps/store.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "libdist/plan.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::ps;
using test::Approx;

struct Setup {
  int workers = 3;
  int servers = 1;
  Rules rules = Rules::from(Mode::sync, Options{});
  UpdateRule rule = Sgd{.learning_rate = 1};
  Bytes max_piece = 4_MiB;
  std::vector<std::uint64_t> lengths = {100};
};

Rules unlimited() { return Rules::from(Mode::async, Options{}); }

std::shared_ptr<const ShardMap> map_of(const Setup& setup) {
  std::vector<Bucket> buckets;
  std::uint64_t next = 0;
  for (const auto length : setup.lengths) {
    buckets.push_back({{next, next + length}, buckets.size(), buckets.size() + 1});
    next += length;
  }
  return std::make_shared<const ShardMap>(
      make_shard_map(std::move(buckets),
                     {.servers = setup.servers, .min_piece = 1_B, .max_piece = setup.max_piece}));
}

std::unique_ptr<Store> make_store(const Setup& setup, Trace& trace, int server = 0) {
  return Store::create(
             {map_of(setup), server, setup.workers, DType::f32, setup.rule, setup.rules, {}}, trace)
      .value();
}

std::span<const std::byte> bytes(const std::vector<float>& values, Range range) {
  return std::as_bytes(std::span(values).subspan(range.begin, range.elems()));
}

// Numbers whose sum depends on the order.
std::vector<std::vector<float>> uneven_gradients(int workers, std::uint64_t elems) {
  std::mt19937 random(7);
  std::vector<std::vector<float>> out(static_cast<std::size_t>(workers));
  for (auto& gradient : out) {
    for (std::uint64_t i = 0; i < elems; ++i) {
      gradient.push_back(std::uniform_real_distribution<float>(-1, 1)(random) *
                         (random() % 2 == 0 ? 1e4f : 1e-4f));
    }
  }
  return out;
}

TEST_CASE("the sum has the order of the plan, however the bucket is cut into pieces") {
  Trace trace(0, false);
  constexpr std::uint64_t kElems = 9001;
  for (const int workers : {1, 2, 3, 5, 8}) {
    const auto gradients = uneven_gradients(workers, kElems);
    std::vector<float> expected(kElems, 0);
    for (int chunk = 0; chunk < workers; ++chunk) {
      const Range range = chunk_range({0, kElems}, workers, chunk);
      for (auto i = range.begin; i < range.end; ++i) {
        float sum = gradients[static_cast<std::size_t>(first_summand(chunk))][i];
        for (int k = 1; k < workers; ++k) {
          sum += gradients[static_cast<std::size_t>((first_summand(chunk) + k) % workers)][i];
        }
        expected[i] = sum;
      }
    }
    std::vector<float> updated(kElems, 0);
    Updater(Sgd{.learning_rate = 1}, Elems(kElems), DType::f32)
        .apply(std::as_writable_bytes(std::span(updated)), std::as_bytes(std::span(expected)), 0,
               {1.0 / workers});
    for (const int servers : {1, 3}) {
      for (const Bytes max_piece : {4_MiB, 1000_B, 36_B}) {
        INFO(workers << " workers, " << servers << " servers");
        const Setup setup{
            .workers = workers, .servers = servers, .max_piece = max_piece, .lengths = {kElems}};
        for (int server = 0; server < servers; ++server) {
          const auto store = make_store(setup, trace, server);
          for (std::size_t at = 0; at < store->pieces(); ++at) {
            const Range range = store->piece(at).range;
            for (int w = workers - 1; w >= 0; --w) {
              REQUIRE_OK(store->contribute(
                  at, w, 0, 0, bytes(gradients[static_cast<std::size_t>(w)], range), {}));
            }
            store->apply(at);
            REQUIRE(std::memcmp(store->parameters(at).data(), bytes(updated, range).data(),
                                store->parameters(at).size()) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("the mean is over those who contributed") {
  Trace trace(0, false);
  const auto store = make_store({.workers = 3, .lengths = {4}}, trace);
  const std::vector<float> ones(4, 1);
  const std::vector<float> threes(4, 3);
  REQUIRE_OK(store->contribute(0, 0, 0, 0, std::as_bytes(std::span(ones)), {}));
  REQUIRE_OK(store->contribute(0, 2, 0, 0, std::as_bytes(std::span(threes)), {}));
  REQUIRE(!store->policy(0).update_ready());
  REQUIRE(store->waiting_since(0).has_value());
  store->end(1);
  REQUIRE(store->policy(0).update_ready());
  store->apply(0);
  REQUIRE(!store->waiting_since(0).has_value());
  float value = 0;
  std::memcpy(&value, store->parameters(0).data(), sizeof value);
  REQUIRE(value == -2);
}

TEST_CASE("a gradient of a version the worker was not given is refused") {
  Trace trace(0, false);
  const auto store = make_store({.workers = 1, .lengths = {4}}, trace);
  const std::vector<float> ones(4, 1);
  REQUIRE(store->contribute(0, 0, 0, 1, std::as_bytes(std::span(ones)), {}).code() ==
          ErrorCode::protocol);
  REQUIRE(!store->policy(0).update_ready());
}

float first_value(const Store& store) {
  float value = 0;
  std::memcpy(&value, store.parameters(0).data(), sizeof value);
  return value;
}

// Worker 0 makes three steps of gradient 1, then worker 1's gradient 4 comes, three versions old.
float after_a_stale_gradient(const Options& options) {
  Trace trace(0, false);
  const auto store = make_store(
      {.workers = 2, .rules = Rules::from(Mode::async, options), .lengths = {3000}}, trace);
  const std::vector<float> ones(3000, 1);
  const std::vector<float> fours(3000, 4);
  for (const int worker : {0, 1}) store->give(0, worker);
  for (std::uint64_t step = 0; step < 3; ++step) {
    REQUIRE_OK(store->contribute(0, 0, step, step, std::as_bytes(std::span(ones)), {}));
    store->apply(0);
    store->give(0, 0);
  }
  REQUIRE(first_value(*store) == -3);
  REQUIRE_OK(store->contribute(0, 1, 0, 0, std::as_bytes(std::span(fours)), {}));
  store->apply(0);
  const auto last = store->parameters(0).last(sizeof(float));
  float value = 0;
  std::memcpy(&value, last.data(), sizeof value);
  REQUIRE(value == first_value(*store));
  return value;
}

TEST_CASE("a stale gradient counts as the options say") {
  Options options;
  REQUIRE(after_a_stale_gradient(options) == -3 - 4);
  options.staleness_rate = true;
  REQUIRE(after_a_stale_gradient(options) == Approx(-3 - 4.0 / 3));
  options.staleness_rate = false;
  options.delay_compensation = 0.125;
  // g + lambda g g (w - w_then), with w - w_then = -3.
  REQUIRE(after_a_stale_gradient(options) == -3 - (4 + 0.125f * 4 * 4 * -3));
}

TEST_CASE("a late contribution of a step is dropped, counted, and its memory given back") {
  Options options;
  options.backup_workers = 1;
  Trace trace(0, false);
  Staging staging({.buffer = 16_B, .quota_per_worker = 16_B, .workers = 3, .alias_window = {}});
  const auto store =
      make_store({.workers = 3, .rules = Rules::from(Mode::sync, options), .lengths = {4}}, trace);
  const auto push = [&](int worker, std::uint64_t step, std::uint64_t version, float value) {
    auto buffer = *staging.lend(worker).value();
    const std::vector<float> gradient(4, value);
    std::memcpy(buffer.bytes().data(), gradient.data(), 16);
    const auto data = buffer.bytes();
    REQUIRE_OK(store->contribute(0, worker, step, version, data, std::move(buffer)));
  };
  push(0, 0, 0, 1);
  push(2, 0, 0, 3);
  store->apply(0);
  REQUIRE(first_value(*store) == -2);
  push(1, 0, 0, 100);
  REQUIRE(!store->policy(0).update_ready());
  REQUIRE(staging.lend(1).value().has_value());
  REQUIRE(store->give(0, 1).version == 1);
  const auto report = store->report();
  REQUIRE(report.applied == 2);
  REQUIRE(report.dropped == 1);
  REQUIRE(report.doubled == 0);
  REQUIRE(report.staleness.empty());
}

TEST_CASE("staging goes back once a contribution is applied") {
  Trace trace(0, false);
  Staging staging({.buffer = 16_B, .quota_per_worker = 16_B, .workers = 1, .alias_window = {}});
  const auto store = make_store({.workers = 1, .lengths = {4}}, trace);
  auto buffer = *staging.lend(0).value();
  const auto data = buffer.bytes();
  REQUIRE_OK(store->contribute(0, 0, 0, 0, data, std::move(buffer)));
  REQUIRE(!staging.lend(0).value().has_value());
  store->apply(0);
  REQUIRE(staging.lend(0).value().has_value());
}

TEST_CASE("pulls wait for the first parameters") {
  Trace trace(0, false);
  const auto store = make_store({.workers = 2, .lengths = {4}}, trace);
  REQUIRE(!store->may_answer(0, 1, 0));
  store->mark_initialised(0);
  REQUIRE(store->may_answer(0, 1, 0));
}

TEST_CASE("staleness: versions applied between pull and apply, the largest of a step's pieces") {
  Trace trace(0, false);
  const auto store = make_store({.workers = 2, .rules = unlimited(), .lengths = {4, 4}}, trace);
  const std::vector<float> ones(4, 1);
  const auto push = [&](std::size_t at, int worker, std::uint64_t step, std::uint64_t version) {
    REQUIRE_OK(store->contribute(at, worker, step, version, std::as_bytes(std::span(ones)), {}));
    store->apply(at);
  };
  // Worker 0 steps three times on piece 0 and 1, worker 1 once, from version 0.
  for (std::uint64_t step = 0; step < 3; ++step) {
    push(0, 0, step, step);
    push(1, 0, step, step);
    REQUIRE(store->give(0, 0).version == step + 1);
    REQUIRE(store->give(1, 0).staleness == 0);
  }
  push(0, 1, 0, 0);
  REQUIRE(store->report().staleness[0] == 3);  // worker 1's step is not whole yet
  REQUIRE(store->report().staleness[3] == 0);
  push(1, 1, 0, 0);
  REQUIRE(store->report().staleness[0] == 3);
  REQUIRE(store->report().staleness[3] == 1);
  REQUIRE(store->report().staleness_max == 3);
  REQUIRE(store->report().staleness_mean == 0.75);
  REQUIRE(store->report().applied == 8);
  const auto given = store->give(0, 1);
  REQUIRE(given.version == 4);
  REQUIRE(given.staleness == 3);
}

TEST_CASE("the last entry of the histogram counts all older gradients") {
  Trace trace(0, false);
  const auto store = make_store({.workers = 2, .rules = unlimited(), .lengths = {1}}, trace);
  const std::vector<float> one(1, 1);
  const auto data = std::as_bytes(std::span(one));
  for (std::uint64_t step = 0; step < 200; ++step) {
    REQUIRE_OK(store->contribute(0, 0, step, step, data, {}));
    store->apply(0);
    store->give(0, 0);
  }
  REQUIRE_OK(store->contribute(0, 1, 0, 0, data, {}));
  store->apply(0);
  REQUIRE(store->report().staleness.size() == Store::kHistogramEntries);
  REQUIRE(store->report().staleness.front() == 200);
  REQUIRE(store->report().staleness.back() == 1);
}

TEST_CASE("every gradient is applied once: integers add up exactly") {
  Trace trace(0, false);
  const auto store = make_store(
      {.workers = 4, .rules = unlimited(), .rule = Sgd{.learning_rate = -1}, .lengths = {64}},
      trace);
  std::mt19937 random(3);
  std::vector<std::uint64_t> steps(4, 0);
  std::vector<std::uint64_t> given(4, 0);
  float expected = 0;
  for (int i = 0; i < 400; ++i) {
    const auto w = static_cast<std::size_t>(random() % 4);
    const std::vector<float> gradient(64, static_cast<float>(w + 1));
    REQUIRE_OK(store->contribute(0, static_cast<int>(w), steps[w]++, given[w],
                                 std::as_bytes(std::span(gradient)), {}));
    store->apply(0);
    given[w] = store->give(0, static_cast<int>(w)).version;
    expected += static_cast<float>(w + 1);
  }
  REQUIRE(store->policy(0).version() == 400);
  std::vector<float> values(64);
  std::memcpy(values.data(), store->parameters(0).data(), 64 * sizeof(float));
  REQUIRE(std::all_of(values.begin(), values.end(), [&](float v) { return v == expected; }));
}

// A checkpoint of the arena in memory: what every shard gave.
class MemorySource final : public checkpoint::Source {
 public:
  bool has(std::size_t) const override { return false; }
  explicit MemorySource(std::vector<checkpoint::Snapshot> shards) : shards_(std::move(shards)) {}

  std::uint64_t step() const override { return shards_.front().step(); }
  Status read(Range range, std::size_t array, std::span<std::byte> into) const override {
    for_each(range, [&](const checkpoint::Part& part, Range common) {
      std::memcpy(into.data() + (common.begin - range.begin) * sizeof(float),
                  part.arrays.at(array).data() + (common.begin - part.range.begin) * sizeof(float),
                  common.elems() * sizeof(float));
    });
    return {};
  }
  std::uint64_t version(Range range) const override {
    std::uint64_t smallest = ~std::uint64_t{0};
    for_each(range, [&](const checkpoint::Part& part, Range) {
      smallest = std::min(smallest, part.version);
    });
    return smallest;
  }

 private:
  template <typename Visit>
  void for_each(Range range, const Visit& visit) const {
    for (const auto& shard : shards_) {
      for (const auto& part : shard.parts()) {
        const Range common = intersect(part.range, range);
        if (!common.empty()) visit(part, common);
      }
    }
  }

  std::vector<checkpoint::Snapshot> shards_;
};

TEST_CASE("a snapshot resumes on another number of servers: parameters, state, versions") {
  Trace trace(0, false);
  const Setup one{.workers = 1, .rule = Momentum{.learning_rate = 1, .momentum = 0.5}};
  const auto whole = make_store(one, trace);
  const auto gradients = uneven_gradients(1, 100);
  const auto step = [&](Store& store, std::uint64_t clock, Range range) {
    REQUIRE_OK(
        store.contribute(0, 0, clock, store.policy(0).given(0), bytes(gradients[0], range), {}));
    store.apply(0);
    store.give(0, 0);
  };
  for (std::uint64_t s = 0; s < 3; ++s) step(*whole, s, {0, 100});
  std::vector<checkpoint::Snapshot> shards;
  shards.push_back(whole->snapshot(3));
  CHECK(shards[0].step() == 3);
  CHECK(shards[0].shard() == 0);
  CHECK(shards[0].shards() == 1);
  const MemorySource source(std::move(shards));
  step(*whole, 3, {0, 100});
  Setup two = one;
  two.servers = 2;
  for (const int server : {0, 1}) {
    const auto half = make_store(two, trace, server);
    const Range range = half->piece(0).range;
    REQUIRE_OK(source.read(range, 0, half->parameters(0)));
    REQUIRE_OK(half->resume(source));
    CHECK(half->policy(0).version() == 3);
    half->mark_initialised(0);
    half->give(0, 0);
    step(*half, 0, range);
    CHECK(half->policy(0).version() == 4);
    const auto expected = whole->parameters(0).subspan(range.begin * sizeof(float));
    CHECK(std::memcmp(half->parameters(0).data(), expected.data(), half->parameters(0).size()) ==
          0);
  }
}

TEST_CASE("an aliased store takes a window of memory for a shard of any size") {
  Trace trace(0, false);
  const Setup setup{.workers = 2, .lengths = {std::uint64_t{1} << 33}};  // 32 GiB, twice
  const auto store =
      Store::create({map_of(setup), 0, 2, DType::f32, Momentum{}, setup.rules, 32_MiB}, trace);
  REQUIRE_OK(store);
  const auto first = (*store)->parameters(0);
  const auto last = (*store)->parameters((*store)->pieces() - 1);
  std::memset(first.data(), 0, first.size());
  std::memset(last.data(), 7, last.size());
  // Pieces of 4 MiB: the eighth one shows the same memory as the last one, both end a window.
  REQUIRE((*store)->parameters(7).front() == std::byte{7});
  REQUIRE(first.front() == std::byte{0});
}

}  // namespace
