// SPDX-License-Identifier: Apache-2.0
#include "ps/update_pool.h"

#include <cstring>

#include "tests/support/catch.h"
#include "tests/support/memory_transport.h"

namespace {

using namespace dist;
using namespace dist::ps;

constexpr std::uint64_t kElems = 100'000;

std::unique_ptr<Store> make_store(Trace& trace) {
  auto map = std::make_shared<const ShardMap>(
      make_shard_map({{{0, kElems}, 0, 1}}, {.servers = 1, .max_piece = 16_KiB}));
  return Store::create({std::move(map), 0, 2, DType::f32, Momentum{}, {}, {}}, trace).value();
}

std::vector<std::byte> train(int threads) {
  Trace trace(0, false);
  const auto store = make_store(trace);
  test::MemoryNetwork network(2, 1);
  std::vector<std::vector<float>> gradients(2, std::vector<float>(kElems));
  std::uint32_t random = 1;
  std::vector<std::byte> out;
  UpdatePool pool(*store, threads);
  for (std::uint64_t step = 0; step < 3; ++step) {
    for (auto& gradient : gradients) {
      for (float& g : gradient) {
        random = random * 1664525 + 1013904223;
        g = static_cast<float>(random >> 8) * (random & 0x80 ? 1e3f : -1e-3f);
      }
    }
    for (std::size_t at = 0; at < store->pieces(); ++at) {
      const Range range = store->piece(at).range;
      for (int w = 0; w < 2; ++w) {
        const auto all = std::span(gradients[static_cast<std::size_t>(w)]);
        REQUIRE_OK(store->contribute(at, w, step, step,
                                     std::as_bytes(all.subspan(range.begin, range.elems())), {}));
      }
      pool.start(store->take_update(at), network.endpoint(0));
      REQUIRE(store->busy(at));
      REQUIRE(!store->may_answer(at, 0, step + 1));
    }
    for (std::size_t finished = 0; finished < store->pieces();) {
      for (const auto& update : pool.take_finished()) {
        store->finish(update);
        REQUIRE(!store->busy(update.at));
        for (int w = 0; w < 2; ++w) store->give(update.at, w);
        ++finished;
      }
    }
    REQUIRE(pool.has_room());
  }
  for (std::size_t at = 0; at < store->pieces(); ++at) {
    const auto bytes = store->parameters(at);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return out;
}

TEST_CASE("any number of threads computes the same bits") {
  const auto alone = train(0);
  for (const int threads : {1, 3}) REQUIRE(train(threads) == alone);
}

TEST_CASE("a pool that goes waits for what it computes and forgets the rest") {
  Trace trace(0, false);
  const auto store = make_store(trace);
  test::MemoryNetwork network(2, 1);
  const std::vector<float> ones(kElems, 1);
  UpdatePool pool(*store, 1);
  for (std::size_t at = 0; at < store->pieces(); ++at) {
    const Range range = store->piece(at).range;
    for (int w = 0; w < 2; ++w) {
      REQUIRE_OK(store->contribute(at, w, 0, 0,
                                   std::as_bytes(std::span(ones)).first(range.elems() * 4), {}));
    }
    pool.start(store->take_update(at), network.endpoint(0));
  }
  REQUIRE(!pool.has_room());
}

}  // namespace
