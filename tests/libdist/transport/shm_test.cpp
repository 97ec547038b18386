// SPDX-License-Identifier: Apache-2.0
// What is special to shared memory; the general contract is in tests/contract.
#include "libdist/transport/shm.h"

#include <unistd.h>

#include "libdist/transport/shm_segment.h"
#include "tests/contract/traffic.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace dist::test {

TEST_CASE("a lone rank needs no segment and no other rank") {
  Options options;
  options.job = 0x10e0000u + static_cast<std::uint64_t>(::getpid());
  auto transport = open_shm(options);
  REQUIRE_OK(transport);
  REQUIRE((*transport)->rank() == 0);
  REQUIRE((*transport)->ranks() == 1);
  (*transport)->progress(std::chrono::milliseconds(1));
  (*transport)->wake();
  (*transport)->progress(std::chrono::hours(1));
}

TEST_CASE("impossible options are refused") {
  Options options;
  options.rank = 2;
  options.ranks = 2;
  REQUIRE(open_shm(options).status().code() == ErrorCode::invalid_argument);
}

TEST_CASE("a small message is there at once, a large one streams through the ring") {
  auto group = make_shm_group(2);
  const auto ring_bytes = SegmentLayout(2).ring_bytes(Channel::collective);
  const auto small = pattern(1000, 1);
  const Operation first = group[0]->send(1, Channel::collective, small);
  REQUIRE(group[0]->finished(first));
  REQUIRE_OK(group[0]->take(first));

  const auto large = pattern(3 * ring_bytes, 2);
  const Operation second = group[0]->send(1, Channel::collective, large);
  REQUIRE_FALSE(group[0]->finished(second));
  std::vector<std::byte> in_small(small.size()), in_large(large.size());
  const Operation receive_small = group[1]->receive(0, Channel::collective, in_small);
  REQUIRE(group[1]->finished(receive_small));
  REQUIRE_OK(group[1]->take(receive_small));
  const Operation receive_large = group[1]->receive(0, Channel::collective, in_large);
  while (!group[1]->finished(receive_large)) {
    group[0]->progress(Duration::zero());
    group[1]->progress(Duration::zero());
  }
  REQUIRE_OK(group[1]->take(receive_large));
  REQUIRE_OK(group[0]->take(second));
  REQUIRE(in_small == small);
  REQUIRE(in_large == large);
}

TEST_CASE("bytes that had come before a peer closed can still finish an operation") {
  auto group = make_shm_group(2);
  const auto whole = pattern(500, 1);
  REQUIRE_OK(group[0]->wait(group[0]->send(1, Channel::control, whole), soon()));
  const auto ring_bytes = SegmentLayout(2).ring_bytes(Channel::to_server);
  const auto cut_off = pattern(2 * ring_bytes, 2);
  const Operation sending = group[0]->send(1, Channel::to_server, cut_off);
  group[0]->close(Duration::zero());
  REQUIRE(group[0]->take(sending).code() == ErrorCode::cancelled);

  std::vector<std::byte> in(500), in_cut_off(cut_off.size());
  const Operation half = group[1]->receive(0, Channel::to_server, in_cut_off);
  const Operation none = group[1]->receive(0, Channel::to_worker, in);
  for (const Operation operation : {half, none}) {
    const auto status = group[1]->wait(operation, soon());
    REQUIRE(status.code() == ErrorCode::peer_lost);
    REQUIRE(status.message().find("rank 0 has closed the transport") != std::string::npos);
  }
  REQUIRE_OK(group[1]->wait(group[1]->receive(0, Channel::control, in), soon()));
  REQUIRE(in == whole);
  const auto late = group[1]->wait(group[1]->send(0, Channel::control, in), soon());
  REQUIRE(late.code() == ErrorCode::peer_lost);
  REQUIRE(late.message().find("send of 500 bytes to rank 0 on control") == 0);
}

TEST_CASE("after a message of another size the stream stays broken") {
  auto group = make_shm_group(2);
  const auto out = pattern(100, 1);
  for (int i = 0; i < 2; ++i) {
    REQUIRE_OK(group[0]->wait(group[0]->send(1, Channel::collective, out), soon()));
  }
  std::vector<std::byte> wrong(64), right(100);
  const Operation first = group[1]->receive(0, Channel::collective, wrong);
  REQUIRE(group[1]->take(first).message().find("100 bytes where 64 were expected") !=
          std::string::npos);
  const Operation next = group[1]->receive(0, Channel::collective, right);
  group[1]->progress(Duration::zero());
  REQUIRE(group[1]->take(next).code() == ErrorCode::protocol);

  REQUIRE_OK(group[0]->wait(group[0]->send(1, Channel::control, out), soon()));
  REQUIRE_OK(group[1]->wait(group[1]->receive(0, Channel::control, right), soon()));
}

}  // namespace dist::test
