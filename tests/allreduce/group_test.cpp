// SPDX-License-Identifier: Apache-2.0
// What a group refuses, how it chooses, and that groups of one world keep out of each other's way;
// what the collectives compute stands in tests/contract/collective_contract.cpp.
#include "allreduce/group.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

std::unique_ptr<Group> group_of(World& world, std::vector<Rank> members = {},
                                const std::string& algorithm = "auto") {
  return allreduce::make_group(world, std::move(members), algorithm).value();
}

void expect_refused(const Status& status, const std::string& text) {
  expect(status.code() == ErrorCode::invalid_argument, "expected a refusal: {}", status.message());
  expect(status.message().find(text) != std::string::npos, "{}", status.message());
}

TEST_CASE("members that do not exist, come twice or leave the caller out are refused") {
  test::run_ranks("shm", 2, [](World& world) {
    const auto refusal = [&](std::vector<Rank> members) {
      return allreduce::make_group(world, std::move(members), "auto").status();
    };
    expect_refused(refusal({0, 1, 2}), "between 0 and 1");
    expect_refused(refusal({-1, 0, 1}), "between 0 and 1");
    expect_refused(refusal({0, 1, 1}), "once");
    expect_refused(refusal({1 - world.rank()}), "is no member");
  });
}

TEST_CASE("numbers within a group follow its list") {
  test::run_ranks("shm", 3, [](World& world) {
    const auto group = group_of(world, {2, 0, 1});
    expect(group->ranks() == 3 && group->world_rank(0) == 2, "the list gives the numbers");
    expect(group->world_rank(group->rank()) == world.rank(), "world_rank(rank())");
    expect(group->own_chunk(7) == chunk_range({0, 7}, 3, group->rank()), "own_chunk");
  });
}

TEST_CASE("members that were told different things are refused, all of them") {
  std::atomic<int> refused{0};
  test::run_ranks("shm", 2, [&](World& world) {
    const auto members = world.rank() == 0 ? std::vector<Rank>{0, 1} : std::vector<Rank>{1, 0};
    const auto made = allreduce::make_group(world, members, "auto");
    refused += made.status().message().find("the members disagree") != std::string::npos ? 1 : 0;
    const auto other = allreduce::make_group(world, {}, world.rank() == 0 ? "ring" : "doubling");
    refused += other.status().message().find("the members disagree") != std::string::npos ? 1 : 0;
    expect_ok(group_of(world)->barrier());  // refusals do no harm
  });
  REQUIRE(refused == 4);
}

TEST_CASE("algorithms: unknown, not here, by table and by name") {
  const auto path =
      std::filesystem::temp_directory_path() / ("group-test-" + std::to_string(getpid()) + ".txt");
  std::ofstream(path) << "* 1 0 tree\ntcp 3 1000 halving\n";
  Options options;
  options.choice_table = path.string();
  test::run_ranks(
      "tcp", 3,
      [](World& world) {
        expect_refused(allreduce::make_group(world, {}, "gossip").status(), "doubling");
        expect(allreduce::make_group(world, {}, "native").status().code() == ErrorCode::unavailable,
               "native over tcp");
        const auto group = group_of(world);
        expect(group->algorithm(999_B) == "tree" && group->algorithm(1000_B) == "halving",
               "the table of the options");
        expect(group_of(world, {}, "doubling")->algorithm(5000_B) == "doubling", "by name");
      },
      options);
  std::ofstream(path) << "* 1 0 tree\nnonsense\n";
  test::run_ranks(
      "tcp", 1,
      [&](World& world) {
        expect_refused(allreduce::make_group(world, {}, "auto").status(), path.string() + ":2");
      },
      options);
  std::filesystem::remove(path);
}

TEST_CASE("the sweep stays within a host, also within one that only counts as such") {
  Options options;
  options.ranks_per_host = 2;
  test::run_ranks(
      "shm", 3,
      [](World& world) {
        for (const std::string algorithm : {"auto", "hierarchical"}) {
          expect(group_of(world, {}, algorithm)->algorithm(100_B) != "sweep", "two hosts");
        }
        if (world.rank() == 2) return;
        expect(group_of(world, {0, 1})->algorithm(100_B) == "sweep", "one host");
      },
      options);
  test::run_ranks("tcp", 2, [](World& world) {
    expect(group_of(world)->algorithm(100_B) != "sweep", "who wants tcp gets tcp");
    expect(group_of(world, {}, "sweep")->algorithm(100_B) == "sweep", "unless told otherwise");
  });
}

TEST_CASE("data of odd length or place, and roots outside, are refused before anything moves") {
  test::run_ranks("shm", 2, [](World& world) {
    const auto group = group_of(world);
    alignas(8) std::array<std::byte, 24> memory{};
    expect_refused(group->all_reduce(std::span(memory).first(7), DType::f32), "whole number");
    expect_refused(group->all_reduce(std::span(memory).subspan(2, 8), DType::f32), "boundary");
    expect_refused(group->broadcast(std::span(memory).first(8), DType::f32, 2), "root 2");
    expect_refused(group->start_reduce(std::span(memory).first(8), DType::f32, -1).wait(),
                   "reduce: root -1");
    expect_ok(group->barrier());
  });
}

TEST_CASE("allocated memory is zeroed, as long as asked for, and reduced") {
  for (const std::string transport : {"shm", "tcp"}) {
    test::run_ranks(transport, 3, [](World& world) {
      const auto group = group_of(world);
      const auto memory = group->allocate(4000_B).value();
      const std::span<float> values(reinterpret_cast<float*>(memory.data()), 1000);
      expect(memory.size() == 4000, "the size");
      for (const float value : values) expect(value == 0, "zeroed");
      for (int call = 1; call <= 3; ++call) {
        for (float& value : values) value = static_cast<float>(call << world.rank());
        expect_ok(group->all_reduce(values));
        for (const float value : values) expect(value == static_cast<float>(7 * call), "the sum");
      }
    });
  }
}

// Overlapping groups, many operations in flight at once on both, started in one order.
TEST_CASE("groups that share members run side by side without mixing their messages") {
  for (const std::string transport : {"shm", "tcp"}) {
    test::run_ranks(transport, 4, [](World& world) {
      const Rank me = world.rank();
      const auto all = group_of(world, {}, "ring");
      const auto low = me <= 2 ? group_of(world, {2, 1, 0}, "doubling") : nullptr;
      const auto high = me >= 1 ? group_of(world, {1, 2, 3}, "tree") : nullptr;
      constexpr std::size_t kElems = 5000;
      constexpr std::size_t kRounds = 6;
      std::vector<std::vector<std::int32_t>> data(3 * kRounds);
      std::vector<Work> works;
      for (std::size_t k = 0; k < kRounds; ++k) {
        const auto start = [&](Group* group, std::size_t slot) {
          if (group == nullptr) return;
          data[3 * k + slot].assign(kElems, (static_cast<int>(k) + 1) << (4 * me));
          works.push_back(group->start_all_reduce(data[3 * k + slot]));
        };
        start(low.get(), 0);
        start(high.get(), 1);
        start(all.get(), 2);
      }
      for (Work& work : works) expect_ok(work.wait());
      const int sums[] = {0x0111, 0x1110, 0x1111};
      for (std::size_t i = 0; i < data.size(); ++i) {
        const auto factor = static_cast<std::int32_t>(i / 3 + 1);
        for (const auto value : data[i]) expect(value == factor * sums[i % 3], "a sum");
      }
    });
  }
}

// Each pair has one group; every rank starts its two groups in another order. A single queue for
// all operations of a rank would wait in a circle.
TEST_CASE("groups that share one member only do not wait for each other") {
  test::run_ranks("shm", 3, [](World& world) {
    const Rank me = world.rank();
    const auto pair = [](Rank a, Rank b) {
      return std::vector<Rank>{std::min(a, b), std::max(a, b)};
    };
    const Rank next = (me + 1) % 3;
    const Rank last = (me + 2) % 3;
    // Made in an order that works: 01, 02, 12.
    std::unique_ptr<Group> with_next, with_last;
    for (const auto& members : {pair(0, 1), pair(0, 2), pair(1, 2)}) {
      if (members == pair(me, next)) with_next = group_of(world, members, "doubling");
      if (members == pair(me, last)) with_last = group_of(world, members, "doubling");
    }
    std::vector<int> first(100, me), second(100, me);
    Work one = with_next->start_all_reduce(first);
    Work two = with_last->start_all_reduce(second);
    expect_ok(one.wait());
    expect_ok(two.wait());
    expect(first == std::vector<int>(100, me + next), "with the next rank");
    expect(second == std::vector<int>(100, me + last), "with the last rank");
  });
}

TEST_CASE("a group outlives a move of its world") {
  test::run_ranks("shm", 2, [](World& world) {
    const auto group = group_of(world, {}, "ring");
    World moved = std::move(world);
    std::vector<double> values(10, 1);
    expect_ok(group->all_reduce(values));
    expect(values == std::vector<double>(10, 2), "the sum");
  });
}

}  // namespace
