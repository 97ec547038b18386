// SPDX-License-Identifier: Apache-2.0
#include "ps/norm_sum.h"

#include <deque>
#include <memory>

#include "tests/support/catch.h"
#include "tests/support/memory_transport.h"

namespace {

using namespace dist;
using namespace dist::ps;

using Squares = std::vector<double>;

// Three dedicated servers behind two workers; the second one owns nothing.
const Roles kRoles{2, 3, Placement::dedicated};

struct Servers {
  explicit Servers(unsigned seed) : network(5, seed) {
    ShardMap map;
    map.of_server = {{0}, {}, {1}};
    for (const int server : {0, 2}) sums.emplace_back(kRoles, map, server);
  }
  Transport& endpoint(std::size_t i) { return network.endpoint(i == 0 ? 2 : 4); }

  test::MemoryNetwork network;
  std::deque<NormSum> sums;
};

TEST_CASE("all servers that own something get the same bits, step after step") {
  // The order of this sum shows.
  const std::vector<Squares> own = {{1, 0.1}, {1e-17, 0.2}};
  for (unsigned seed = 0; seed < 8; ++seed) {
    Servers servers(seed);
    for (std::uint64_t version = 0; version < 3; ++version) {
      std::vector<Squares> got(2);
      for (const std::size_t i : {0u, 1u}) {
        servers.sums[i].begin(servers.endpoint(i), version, own[i]);
        REQUIRE(servers.sums[i].under_way());
      }
      std::optional<Rank> lost;
      for (int turns = 0; got[0].empty() || got[1].empty(); ++turns) {
        REQUIRE(turns < 1000);
        for (const std::size_t i : {0u, 1u}) {
          if (!servers.sums[i].under_way()) continue;
          REQUIRE(servers.sums[i].missing() == (i == 0 ? 4 : 2));
          auto sum = servers.sums[i].advance(servers.endpoint(i), &lost);
          REQUIRE_OK(sum);
          if (sum->has_value()) got[i] = **sum;
        }
        servers.network.step();
      }
      REQUIRE(got[0] == Squares{1 + 1e-17, 0.1 + 0.2});
      REQUIRE(got[1] == got[0]);
    }
    REQUIRE(servers.network.breaches().empty());
  }
}

TEST_CASE("a single server has the sum at once") {
  test::MemoryNetwork network(1, 0);
  ShardMap map;
  map.of_server = {{0}};
  NormSum alone({1, 1, Placement::colocated}, map, 0);
  std::optional<Rank> lost;
  alone.begin(network.endpoint(0), 0, {3, 4});
  REQUIRE(alone.advance(network.endpoint(0), &lost).value() == Squares{3, 4});
  REQUIRE(!alone.under_way());
}

// The first server's outcome when the other one is at `version`, or cut off.
Status outcome(std::uint64_t version, bool cut, std::optional<Rank>* lost) {
  Servers servers(1);
  if (cut) servers.network.cut(4, 2);
  servers.sums[0].begin(servers.endpoint(0), 7, {1});
  servers.sums[1].begin(servers.endpoint(1), version, {1});
  for (int turns = 0; turns < 1000; ++turns) {
    servers.network.step();
    const auto sum = servers.sums[0].advance(servers.endpoint(0), lost);
    if (!sum.ok()) return sum.status();
  }
  return {};
}

TEST_CASE("another version is refused, a lost server is named") {
  std::optional<Rank> lost;
  const auto other_version = outcome(8, false, &lost);
  REQUIRE(other_version.code() == ErrorCode::protocol);
  REQUIRE(other_version.message() == "norms of another server, rank 4: of version 8, not 7");
  REQUIRE(!lost);
  const auto gone = outcome(7, true, &lost);
  REQUIRE(gone.code() == ErrorCode::peer_lost);
  REQUIRE(gone.message().find("norms of another server, rank 4 -> ") == 0);
  REQUIRE(lost == 4);
}

}  // namespace
