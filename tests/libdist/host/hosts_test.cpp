// SPDX-License-Identifier: Apache-2.0
#include "libdist/host/hosts.h"

#include <vector>

#include "tests/support/catch.h"

namespace {

using namespace dist;

TEST_CASE("ranks with one id share a host; hosts come in the order of their lowest ranks") {
  const std::vector<std::uint64_t> ids = {70, 7, 70, 7, 9, 70};
  const Hosts hosts = group_by_host(ids);
  CHECK(hosts.ranks_of == std::vector<std::vector<Rank>>{{0, 2, 5}, {1, 3}, {4}});
  CHECK_FALSE(hosts.one());
  CHECK_FALSE(hosts.even());
  CHECK(hosts.host_of(5) == 0);
  CHECK(hosts.place_of(5) == 2);
  CHECK(hosts.host_of(4) == 2);
  CHECK(hosts.place_of(3) == 1);
}

TEST_CASE("ranks at one place of all hosts") {
  const std::vector<std::uint64_t> ids = {1, 2, 1, 2, 1, 2};
  const Hosts hosts = group_by_host(ids);
  REQUIRE(hosts.even());
  CHECK(hosts.at_place(0) == std::vector<Rank>{0, 1});
  CHECK(hosts.at_place(2) == std::vector<Rank>{4, 5});
  const std::vector<std::uint64_t> alone = {8};
  CHECK(group_by_host(alone).one());
}

TEST_CASE("pretended hosts are made of successive ranks") {
  const int ranks = 5;
  for (Rank rank = 0; rank < ranks; ++rank) {
    // What the sum over all ranks would be.
    const auto sum = [&](std::span<std::uint64_t> words) {
      CHECK(words[static_cast<std::size_t>(rank)] == static_cast<std::uint64_t>(rank / 2));
      for (std::size_t r = 0; r < words.size(); ++r) words[r] = r / 2;
      return Status();
    };
    const auto hosts = find_hosts(rank, ranks, 2, sum);
    REQUIRE(hosts.ok());
    CHECK(hosts->ranks_of == std::vector<std::vector<Rank>>{{0, 1}, {2, 3}, {4}});
  }
  const auto failed = find_hosts(0, 2, 0, [](std::span<std::uint64_t> words) {
    CHECK(words[0] == host_id());
    return Status::peer_lost("rank 1 is gone");
  });
  CHECK(failed.status().code() == ErrorCode::peer_lost);
}

}  // namespace
