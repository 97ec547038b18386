// SPDX-License-Identifier: Apache-2.0
#include "ps/push_order.h"

#include <algorithm>
#include <deque>
#include <random>
#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace {

using dist::ps::PushOrder;

std::vector<std::uint32_t> take_all(PushOrder& order) {
  std::vector<std::uint32_t> out;
  while (!order.empty()) out.push_back(order.take());
  return out;
}

TEST_CASE("without overtaking pieces go in their order") {
  PushOrder order(0);
  for (std::uint32_t piece = 0; piece < 5; ++piece) order.add(piece);
  REQUIRE(take_all(order) == std::vector<std::uint32_t>{0, 1, 2, 3, 4});
}

TEST_CASE("the last piece goes first, past a bounded number of others") {
  PushOrder order(2);
  for (std::uint32_t piece = 0; piece < 5; ++piece) order.add(piece);
  REQUIRE(take_all(order) == std::vector<std::uint32_t>{4, 3, 0, 1, 2});
  // A step later nobody is ahead.
  for (std::uint32_t piece = 0; piece < 3; ++piece) order.add(piece);
  REQUIRE(take_all(order) == std::vector<std::uint32_t>{2, 1, 0});
}

TEST_CASE("a late small bucket overtakes a huge one that waits") {
  PushOrder order(8);
  for (std::uint32_t piece = 0; piece < 100; ++piece) order.add(piece);
  REQUIRE(order.take() == 99);
  order.add(100);
  order.add(101);
  REQUIRE(order.take() == 101);
  REQUIRE(order.take() == 100);
}

TEST_CASE("no piece is overtaken by more than the bound, every piece goes once") {
  std::mt19937 random(1);
  for (const std::size_t bound : {0u, 1u, 3u, 10u}) {
    for (int run = 0; run < 50; ++run) {
      PushOrder order(bound);
      std::vector<std::uint32_t> gone;
      std::uint32_t next = 0;
      while (gone.size() < 40) {
        if (next < 40 && (order.empty() || random() % 2 == 0)) {
          order.add(next++);
        } else {
          gone.push_back(order.take());
        }
      }
      for (std::size_t i = 0; i < gone.size(); ++i) {
        const auto overtook = std::count_if(gone.begin(), gone.begin() + static_cast<long>(i),
                                            [&](auto piece) { return piece > gone[i]; });
        REQUIRE(static_cast<std::size_t>(overtook) <= bound);
      }
      REQUIRE(std::set(gone.begin(), gone.end()).size() == 40);
    }
  }
}

// Workers push all pieces to a server with room for `quota` pieces of each; a piece is done, and
// its room free, when all have pushed it.
TEST_CASE("with less overtaking than room no circle of workers waits") {
  std::mt19937 random(2);
  for (int run = 0; run < 300; ++run) {
    constexpr std::uint32_t kPieces = 24;
    const std::size_t workers = 2 + random() % 3;
    const std::size_t quota = 1 + random() % 4;
    std::vector<PushOrder> orders(workers, PushOrder(quota - 1));
    std::vector<std::uint32_t> added(workers, 0);
    std::vector<std::set<std::uint32_t>> held(workers);
    std::vector<std::deque<std::uint32_t>> sent(workers);
    std::vector<std::size_t> pushed(kPieces, 0);
    std::size_t done = 0;
    for (int turns = 0; done < kPieces; ++turns) {
      REQUIRE(turns < 100'000);  // they wait in a circle
      const auto w = random() % workers;
      if (added[w] < kPieces && random() % 2 == 0) orders[w].add(added[w]++);
      if (!orders[w].empty() && sent[w].size() < 2) sent[w].push_back(orders[w].take());
      if (sent[w].empty() || held[w].size() == quota) continue;
      const auto piece = sent[w].front();
      sent[w].pop_front();
      held[w].insert(piece);
      if (++pushed[piece] < workers) continue;
      for (auto& pieces : held) pieces.erase(piece);
      ++done;
    }
  }
}

}  // namespace
