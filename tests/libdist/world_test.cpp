// SPDX-License-Identifier: Apache-2.0
#include "libdist/world.h"

#include <unistd.h>

#include <filesystem>

#include "libdist/transport/shm.h"
#include "tests/support/catch.h"

namespace dist {

TEST_CASE("a world takes its place from the transport") {
  auto group = make_shm_group(3);
  Options options;
  options.log = "quiet";
  const World world = World::over(std::move(group[2]), options);
  REQUIRE(world.rank() == 2);
  REQUIRE(world.ranks() == 3);
  REQUIRE(world.options().rank == 2);
  REQUIRE(world.options().ranks == 3);
  REQUIRE(world.transport_name() == "shm");
  REQUIRE_FALSE(world.trace().enabled());
  REQUIRE_OK(world.progress().failure());
}

TEST_CASE("several worlds live in one process and may be moved") {
  auto group = make_shm_group(2);
  std::vector<World> worlds;
  for (auto& transport : group) worlds.push_back(World::over(std::move(transport), {}));
  World first = std::move(worlds[0]);
  worlds.erase(worlds.begin());
  REQUIRE(first.rank() == 0);
  REQUIRE(worlds[0].rank() == 1);
  first = std::move(worlds[0]);
  REQUIRE(first.rank() == 1);
}

TEST_CASE("a world that leaves writes the trace, one file a rank") {
  const auto directory =
      std::filesystem::temp_directory_path() / ("dist-world-test-" + std::to_string(::getpid()));
  std::filesystem::create_directory(directory);
  auto group = make_shm_group(2);
  Options options;
  options.trace = (directory / "run.json").string();
  World world = World::over(std::move(group[0]), options);
  REQUIRE(world.trace().enabled());
  REQUIRE_FALSE(std::filesystem::exists(directory / "run.rank0.json"));
  world = World::over(std::move(group[1]), options);
  REQUIRE(std::filesystem::exists(directory / "run.rank0.json"));
  { const World moved = std::move(world); }
  REQUIRE(std::filesystem::exists(directory / "run.rank0.json"));
  REQUIRE(std::filesystem::exists(directory / "run.rank1.json"));
  std::filesystem::remove_all(directory);
}

TEST_CASE("a trace that cannot be written does not stop a world from leaving") {
  Options options;
  options.trace = "/nowhere/run.json";
  options.log = "quiet";
  REQUIRE_NOTHROW(World::over(std::move(make_shm_group(1).front()), options));
}

TEST_CASE("a world with options that cannot work does not open") {
  Options options;
  options.rank = 3;
  options.ranks = 2;
  REQUIRE(World::open(options).status().code() == ErrorCode::invalid_argument);
  options.rank = 0;
  options.ranks = 1;
  options.transport = "carrier-pigeon";
  const auto status = World::open(options).status();
  REQUIRE(status.code() == ErrorCode::invalid_argument);
  REQUIRE(status.message().find("shm, tcp, mpi") != std::string::npos);
}

TEST_CASE("a lone rank opens at once") {
  auto world = World::open({});
  REQUIRE_OK(world);
  REQUIRE(world->ranks() == 1);
  REQUIRE(world->transport_name() == "shm");
}

}  // namespace dist
