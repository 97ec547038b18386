// SPDX-License-Identifier: Apache-2.0
// Both forms of the rendezvous: who finds whom, what stays behind, and what is refused.
#include "libdist/transport/rendezvous.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "libdist/transport/process_identity.h"
#include "libdist/transport/rendezvous_directory.h"
#include "tests/libdist/transport/tcp_support.h"
#include "tests/support/catch.h"

using namespace dist;
using namespace dist::test;

namespace {

tcp::Endpoint address(std::uint16_t port) {
  return *tcp::endpoint_of(fmt::format("127.0.0.1:{}", port));
}

Result<std::unique_ptr<Rendezvous>> join(const Options& options, std::uint16_t port) {
  return open_rendezvous(options, address(port), Clock::now() + options.connect_timeout);
}

bool same_secret(const Rendezvous& a, const Rendezvous& b) {
  const auto x = a.secret().bytes();
  const auto y = b.secret().bytes();
  return std::equal(x.begin(), x.end(), y.begin(), y.end());
}

std::string error_of(const Options& options) {
  const auto joined = join(options, 5000);
  return joined.ok() ? "joined" : joined.status().message();
}

std::string entry(std::uint16_t port, const ProcessIdentity& process) {
  return fmt::format("libdist 1 127.0.0.1:{} {} {} {}\n", port, process.pid, process.pid_namespace,
                     process.start_ticks);
}

}  // namespace

TEST_CASE("ranks meet in a directory and leave it empty") {
  const PrivateDirectory place;
  const auto form = "dir:" + place.path();
  {
    const auto zero = join(rank_options(0, 2, form), 5000);
    REQUIRE_OK(zero);
    CHECK_FALSE((*zero)->find(1).has_value());
    const auto one = join(rank_options(1, 2, form), 5001);
    REQUIRE_OK(one);
    CHECK((*zero)->find(1) == address(5001));
    CHECK((*one)->find(0) == address(5000));
    CHECK(same_secret(**zero, **one));
    struct stat information {};
    REQUIRE(::stat(place.file("secret").c_str(), &information) == 0);
    CHECK((information.st_mode & 07777) == 0600);
  }
  CHECK(place.empty());
}

TEST_CASE("the secret stays while somebody is there, and is another one later") {
  const PrivateDirectory place;
  const auto form = "dir:" + place.path();
  std::vector<std::byte> before;
  {
    auto zero = join(rank_options(0, 2, form), 5000);
    auto one = join(rank_options(1, 2, form), 5001);
    REQUIRE_OK(zero);
    REQUIRE_OK(one);
    before.assign((*one)->secret().bytes().begin(), (*one)->secret().bytes().end());
    *zero = nullptr;
    const auto again = join(rank_options(0, 2, form), 5002);
    REQUIRE_OK(again);
    CHECK(same_secret(**again, **one));
    CHECK((*one)->find(0) == address(5002));
  }
  const auto next = join(rank_options(0, 2, form), 5000);
  REQUIRE_OK(next);
  CHECK_FALSE(std::equal(before.begin(), before.end(), (*next)->secret().bytes().begin()));
}

TEST_CASE("a secret that the launcher left is used") {
  const PrivateDirectory place;
  write_file(place.file("secret"), "put here by the launcher");
  const auto zero = join(rank_options(0, 2, "dir:" + place.path()), 5000);
  REQUIRE_OK(zero);
  CHECK((*zero)->secret().bytes().size() == 24);
}

TEST_CASE("the default directory is private and goes away with the last rank") {
  const auto options = rank_options(0, 2, "");
  const auto path = default_directory(options.job);
  std::filesystem::remove_all(path);
  {
    const auto zero = join(options, 5000);
    REQUIRE_OK(zero);
    struct stat information {};
    REQUIRE(::stat(path.c_str(), &information) == 0);
    CHECK((information.st_mode & 07777) == 0700);
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("coming and going at the same time never splits the secret") {
  constexpr int kRanks = 6;
  const auto splits = on_ranks(kRanks, [](Rank rank) {
    auto options = rank_options(rank, kRanks, "");
    options.job = job_of_this_test(1);
    int bad = 0;
    for (int round = 0; round < 100; ++round) {
      const auto mine = join(options, static_cast<std::uint16_t>(6000 + rank));
      // A second entry of the same process while the first is there must hold the same secret.
      auto neighbour = options;
      neighbour.rank = rank + kRanks;
      neighbour.ranks = 2 * kRanks;
      const auto other = join(neighbour, static_cast<std::uint16_t>(6100 + rank));
      bad += mine.ok() && other.ok() && same_secret(**mine, **other) ? 0 : 1;
    }
    return bad;
  });
  CHECK(std::count(splits.begin(), splits.end(), 0) == kRanks);
  CHECK_FALSE(std::filesystem::exists(default_directory(job_of_this_test(1))));
}

TEST_CASE("entries of dead processes are ignored and replaced") {
  const PrivateDirectory place;
  auto dead = this_process();
  ++dead.start_ticks;  // the number is in use again, by another process
  write_file(place.file("rank.0"), entry(4000, dead));
  write_file(place.file("rank.1"), entry(4001, dead));
  write_file(place.file("rank.2"), "no entry at all");
  const auto zero = join(rank_options(0, 4, "dir:" + place.path()), 5000);
  REQUIRE_OK(zero);
  CHECK((*zero)->find(0) == address(5000));
  CHECK_FALSE((*zero)->find(1).has_value());
  CHECK_FALSE((*zero)->find(2).has_value());
  CHECK_FALSE(std::filesystem::exists(place.file("rank.1")));
}

TEST_CASE("what a killed job left in its default directory is removed by the next job") {
  const PrivateDirectory place;
  const char* before = std::getenv("TMPDIR");
  const std::string restored = before != nullptr ? before : "";
  ::setenv("TMPDIR", place.path().c_str(), 1);  // where no other test removes or leaves anything
  auto dead = this_process();
  ++dead.start_ticks;
  const auto left = default_directory(job_of_this_test(2));
  const auto prepared =
      default_directory(job_of_this_test(3));  // by a launcher whose ranks have not come yet
  for (const auto& path : {left, prepared}) {
    ::mkdir(path.c_str(), 0700);
    write_file(path + "/secret", "0123456789abcdef");
  }
  write_file(left + "/rank.0", entry(4000, dead));
  write_file(left + "/new.rank.1", "");
  REQUIRE_OK(join(rank_options(0, 2, ""), 5000));
  CHECK_FALSE(std::filesystem::exists(left));
  CHECK(std::filesystem::exists(prepared + "/secret"));
  restored.empty() ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", restored.c_str(), 1);
}

TEST_CASE("a rank that lives in another process is not pushed out; a killed one is") {
  const PrivateDirectory place;
  const auto options = rank_options(0, 2, "dir:" + place.path());
  const auto child = ::fork();
  if (child == 0) {
    const auto held = join(options, 4000);
    ::pause();
    ::_exit(held.ok() ? 0 : 1);
  }
  while (!std::filesystem::exists(place.file("rank.0"))) ::usleep(1000);
  const auto error = error_of(options);
  CHECK(contains(error, "rank 0 is already taken"));
  CHECK(contains(error, std::to_string(child)));
  ::kill(child, SIGKILL);
  siginfo_t ended{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT) == 0);
  CHECK(error_of(options) == "joined");  // not yet taken down: a zombie is dead enough
  ::waitpid(child, nullptr, 0);
  CHECK(place.empty());
}

TEST_CASE("directories that are not private are refused") {
  const PrivateDirectory place;
  ::mkdir(place.file("open").c_str(), 0755);
  ::chmod(place.file("open").c_str(), 0755);
  CHECK(contains(error_of(rank_options(0, 2, "dir:" + place.file("open"))), "chmod 700"));
  ::mkdir(place.file("real").c_str(), 0700);
  ::symlink("real", place.file("link").c_str());
  CHECK(contains(error_of(rank_options(0, 2, "dir:" + place.file("link"))), "cannot open"));
  CHECK(contains(error_of(rank_options(0, 2, "dir:" + place.file("no/where"))), "cannot make"));
  CHECK(error_of(rank_options(0, 2, "dir:" + place.file("new"))) == "joined");
}

TEST_CASE("where a rank may listen") {
  auto options = rank_options(0, 2, "");
  REQUIRE_OK(listening_address(options));
  options.bind_address = "::1";
  REQUIRE_OK(listening_address(options));
  const auto refused = [&](const std::string& bind) {
    options.bind_address = bind;
    const auto listening = listening_address(options);
    return listening.ok() ? std::string("accepted") : listening.status().message();
  };
  for (const auto* bind : {"0.0.0.0", "::", "192.168.1.7", "::ffff:127.0.0.1"}) {
    CHECK(contains(refused(bind), "DIST_SECRET_FILE"));
  }
  CHECK(contains(refused("example"), "is no IP address"));
  options.secret_file = "/any";
  CHECK(refused("0.0.0.0") == "accepted");
  options.one_host = false;
  CHECK(contains(refused("0.0.0.0"), "tcp:HOST:PORT"));
  options.rendezvous = "tcp:node0:7000";
  CHECK(refused("0.0.0.0") == "accepted");
  CHECK(contains(refused("127.0.0.1"), "DIST_BIND_ADDRESS"));
}

TEST_CASE("ranks meet at a port of rank 0 and all get the table") {
  constexpr int kRanks = 5;
  const auto form = fmt::format("tcp:localhost:{}", free_port());
  const auto ok = on_ranks(kRanks, [&](Rank rank) {
    // Rank 0 is late.
    if (rank == 0) ::usleep(50000);
    const auto joined =
        join(rank_options(rank, kRanks, form), static_cast<std::uint16_t>(5000 + rank));
    if (!joined.ok()) return joined.status().message();
    for (Rank other = 0; other < kRanks; ++other) {
      if ((*joined)->find(other) != address(static_cast<std::uint16_t>(5000 + other))) {
        return std::string("wrong table");
      }
    }
    return std::string("ok");
  });
  for (const auto& one : ok) CHECK(one == "ok");
}

TEST_CASE("the same port serves world after world") {
  const auto form = fmt::format("tcp:127.0.0.1:{}", free_port());
  for (int round = 0; round < 10; ++round) {
    const auto ok = on_ranks(3, [&](Rank rank) {
      const auto joined =
          join(rank_options(rank, 3, form), static_cast<std::uint16_t>(5000 + rank));
      return joined.ok() ? std::string("ok") : joined.status().message();
    });
    for (const auto& one : ok) CHECK(one == "ok");
  }
}

TEST_CASE("a port in use is named, with what to do") {
  const PlainListener other;
  const auto error = error_of(rank_options(0, 2, fmt::format("tcp:127.0.0.1:{}", other.port())));
  CHECK(contains(error, fmt::format("port {} is in use", other.port())));
  CHECK(contains(error, "choose another port"));
}

TEST_CASE("ranks that do not come to the port are named") {
  const auto form = fmt::format("tcp:127.0.0.1:{}", free_port());
  const auto errors = on_ranks(2, [&](Rank rank) {
    auto options = rank_options(rank, 4, form);
    options.connect_timeout = std::chrono::milliseconds(400);
    return error_of(options);
  });
  CHECK(contains(errors[0], "did not come: 2, 3"));
  CHECK(contains(errors[1], "waited 0.4 s for rank 0"));
}

TEST_CASE("what is no rendezvous is refused") {
  const auto error = [](const std::string& form) { return error_of(rank_options(0, 2, form)); };
  CHECK(contains(error("file:/x"), "neither dir:PATH nor tcp:HOST:PORT"));
  CHECK(contains(error("tcp:localhost"), "tcp:HOST:PORT"));
  CHECK(contains(error("tcp:localhost:0"), "0 is none"));
  CHECK(contains(error("tcp:localhost:http"), "cannot find the address"));
  CHECK(contains(error("tcp:0.0.0.0:7000"), "DIST_SECRET_FILE"));
}
