// SPDX-License-Identifier: Apache-2.0
// kill -9 of one rank among processes: what waits for it ends with its name, what does not goes on,
// and nothing stays behind.
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "libdist/transport/shm.h"
#include "libdist/transport/shm_rendezvous.h"
#include "libdist/transport/tcp.h"
#include "tests/contract/traffic.h"
#include "tests/contract/transport_contract.h"
#include "tests/support/catch.h"
#include "tests/support/processes.h"
#include "tests/support/ranks.h"

namespace dist::test {
namespace {

constexpr int kRanks = 4;
constexpr Rank kKilled = 2;

Options options_of(Rank rank, const std::string& directory) {
  Options options;
  options.rank = rank;
  options.ranks = kRanks;
  options.job = 0xdead0000u + static_cast<std::uint64_t>(::getppid());
  options.rendezvous = "dir:" + directory;
  return options;
}

void expect_lost(const Status& status) {
  expect(status.code() == ErrorCode::peer_lost, "expected peer_lost: {}", status.message());
  expect(status.message().find(fmt::format("rank {}", kKilled)) != std::string::npos,
         "the lost rank is not named: {}", status.message());
}

void live_through_the_loss(Transport& t) {
  std::uint32_t value = 0;
  if (t.rank() == kKilled) {
    value = 77;
    expect_ok(t.wait(t.send(0, Channel::to_worker, bytes_of(value)), soon()));
    meet(t);
    kill_this_process();
  }
  meet(t);
  const std::vector<std::byte> out(30 << 20);
  std::vector<std::byte> in(100), in_later(200);
  const Operation receiving = t.receive(kKilled, Channel::collective, in);
  const Operation receiving_later = t.receive(kKilled, Channel::collective, in_later);
  const Operation sending = t.send(kKilled, Channel::to_server, out);
  expect_lost(t.wait(receiving, soon()));
  expect_lost(t.wait(receiving_later, soon()));
  expect_lost(t.wait(sending, soon()));
  if (t.rank() == 0) {
    expect_ok(t.wait(t.receive(kKilled, Channel::to_worker, bytes_of(value)), soon()));
    expect(value == 77, "what had come before the loss is lost");
  }
  Traffic traffic(t);
  for (Rank other = 0; other < kRanks; ++other) {
    if (other == t.rank() || other == kKilled) continue;
    traffic.send(other, Channel::collective, 700000, t.rank());
    traffic.receive(other, Channel::collective, 700000, other);
  }
  traffic.finish();
}

template <typename Open>
void run_with_one_killed(Open open) {
  const auto name = fmt::format("dist-killed-{}", ::getpid());
  const auto directory = std::filesystem::temp_directory_path() / name;
  std::filesystem::create_directory(directory);
  std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
  const auto codes = run_processes(kRanks, [&](Rank rank) {
    auto transport = open(options_of(rank, directory.string()));
    expect_ok(transport.status());
    live_through_the_loss(**transport);
  });
  std::filesystem::remove_all(directory);
  for (Rank rank = 0; rank < kRanks; ++rank) {
    INFO("rank " << rank);
    REQUIRE(codes[static_cast<std::size_t>(rank)] == (rank == kKilled ? -9 : 0));
  }
}

}  // namespace

TEST_CASE("a killed process is lost to the others over shm") {
  run_with_one_killed(open_shm);
  REQUIRE_FALSE(
      std::filesystem::exists(segment_path(0xdead0000u + static_cast<std::uint64_t>(::getpid()))));
}

TEST_CASE("a killed process is lost to the others over tcp") { run_with_one_killed(open_tcp); }

}  // namespace dist::test
