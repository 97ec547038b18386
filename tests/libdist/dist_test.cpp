// SPDX-License-Identifier: Apache-2.0
// The wiring room: names become strategies, transports and groups.
#include <dist/dist.h>

#include <string>
#include <vector>

#include "allreduce/device_group.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

using dist::test::expect;
using dist::test::expect_ok;

namespace {

dist::World alone() { return dist::World::open({}).value(); }

dist::Arena small_arena() { return dist::Arena::create({{"weights", dist::Elems(10)}}).value(); }

}  // namespace

TEST_CASE("every strategy has a name, and the name makes it") {
  auto world = alone();
  auto arena = small_arena();
  for (const auto name : dist::strategy_names()) {
    INFO(name);
    const auto strategy = dist::make_strategy(name, world, arena, dist::Sgd{});
    REQUIRE_OK(strategy);
    REQUIRE((*strategy)->name() == name);
    REQUIRE((*strategy)->workers() == 1);
  }
}

TEST_CASE("an unknown strategy or transport is an error that lists the valid names") {
  auto world = alone();
  auto arena = small_arena();
  const auto strategy = dist::make_strategy("gossip", world, arena, dist::Sgd{});
  REQUIRE(strategy.status().code() == dist::ErrorCode::invalid_argument);
  for (const auto name : dist::strategy_names()) {
    REQUIRE(strategy.status().message().find(name) != std::string::npos);
  }
  dist::Options options;
  options.transport = "carrier-pigeon";
  const auto transport = dist::make_transport(options);
  REQUIRE(transport.status().code() == dist::ErrorCode::invalid_argument);
  for (const char* name : {"auto", "shm", "tcp", "mpi", "nccl"}) {
    REQUIRE(transport.status().message().find(name) != std::string::npos);
  }
}

TEST_CASE("nccl is for gradients: messages of the host go as with auto, and async-ps refuses it") {
  dist::Options options;
  options.transport = "nccl";
  auto transport = dist::make_transport(options);
  REQUIRE_OK(transport);
  REQUIRE((*transport)->name() == "shm");
  auto world = dist::World::over(*std::move(transport), options);
  auto arena = small_arena();
  const auto refused = dist::make_strategy("async-ps", world, arena, dist::Sgd{}).status();
  REQUIRE(refused.code() == dist::ErrorCode::invalid_argument);
  REQUIRE(refused.message().find("shm, tcp or mpi") != std::string::npos);
  const auto available = dist::allreduce::nccl_available();
  const auto opened = dist::World::open(options);
  REQUIRE(opened.status().message() == available.message());
  REQUIRE((available.ok() || available.message().find("DIST_WITH_NCCL") != std::string::npos));
}

TEST_CASE("a group of all ranks gives every rank the same exact sums") {
  for (const auto& transport : dist::test::kThreadTransports) {
    dist::test::run_ranks(transport, 3, [](dist::World& world) {
      const auto mine = static_cast<float>(1 << world.rank());
      std::vector<float> floats(1000, mine);
      std::vector<double> doubles = {mine, 10.0 * mine};
      const auto group = dist::make_group(world).value();
      expect_ok(group->all_reduce(floats));
      expect_ok(group->all_reduce(std::span(doubles)));
      expect(floats == std::vector<float>(1000, 7), "1 + 2 + 4 in float");
      expect(doubles == std::vector<double>{7, 70}, "1 + 2 + 4 in double");
      expect_ok(group->barrier());
    });
  }
}

TEST_CASE("in an elastic world the servers can be a group, and workers cannot") {
  dist::Options options;
  options.elastic = true;
  options.placement = dist::Placement::dedicated;
  options.servers = 2;
  dist::test::run_ranks(
      "tcp", 4,
      [](dist::World& world) {
        for (const std::vector<int>& members : {std::vector<int>{}, {0, 1, 2, 3}, {1, 2, 3}}) {
          const auto refused = dist::make_group(world, members);
          expect(refused.status().message().find("know servers only") != std::string::npos,
                 "{} members: {}", members.size(), refused.status().message());
        }
        if (world.rank() < 2) return;
        const auto servers = dist::make_group(world, {2, 3}).value();
        std::vector<float> values(100, static_cast<float>(world.rank()));
        expect_ok(servers->all_reduce(values));
        expect(values == std::vector<float>(100, 5), "2 + 3");
      },
      options);
}

TEST_CASE("the version is the project's") { REQUIRE(dist::version().substr(0, 2) == "0."); }
