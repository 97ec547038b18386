// SPDX-License-Identifier: Apache-2.0
// open_tcp: who is let in, what is really bound, strays at the door, ends. What every transport
// does is in tests/contract.
#include "libdist/transport/tcp.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <atomic>
#include <functional>
#include <set>
#include <sstream>

#include "libdist/transport/process_identity.h"
#include "libdist/transport/rendezvous_directory.h"
#include "tests/libdist/transport/strangers.h"
#include "tests/libdist/transport/tcp_support.h"
#include "tests/support/catch.h"

using namespace dist;
using namespace dist::test;

namespace {

using Group = std::vector<Result<std::unique_ptr<Transport>>>;

TimePoint soon() { return Clock::now() + std::chrono::seconds(30); }

Group open_all(
    int ranks, const std::string& rendezvous,
    const std::function<void(Options&)>& change = [](Options&) {}) {
  return on_ranks(ranks, [&](Rank rank) {
    auto options = rank_options(rank, ranks, rendezvous);
    change(options);
    return open_tcp(options);
  });
}

/// One message each way between two ranks of a group.
void require_alive(Group& group, Rank a = 0, Rank b = 1) {
  const auto talk = [&](Rank me, Rank peer) {
    std::vector<std::byte> out(1000, static_cast<std::byte>(me)), in(1000);
    const auto done = (*group[static_cast<std::size_t>(me)])
                          ->exchange(peer, out, peer, in, Channel::collective, soon());
    return done.ok() && in == std::vector<std::byte>(1000, static_cast<std::byte>(peer))
               ? std::string("ok")
               : done.message();
  };
  auto other = std::async(std::launch::async, [&] { return talk(b, a); });
  CHECK(talk(a, b) == "ok");
  CHECK(other.get() == "ok");
}

/// Rank 0 waits in vain for a rank that it refuses; that one learns it at once.
Duration refused_after(Rank rank) { return std::chrono::milliseconds(rank == 0 ? 1500 : 20000); }

/// Local addresses, as in /proc/net/tcp*, of this process's listening sockets.
std::set<std::string> listening_addresses() {
  std::set<std::string> own;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    own.insert(std::filesystem::read_symlink(entry.path(), error).string());
  }
  std::set<std::string> addresses;
  for (const auto* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      std::istringstream fields(line);
      std::string number, local, remote, state, skip, inode;
      fields >> number >> local >> remote >> state;
      for (int i = 0; i < 5; ++i) fields >> skip;
      fields >> inode;
      if (state == "0A" && own.count("socket:[" + inode + "]") > 0) {
        addresses.insert(local.substr(0, local.find(':')));
      }
    }
  }
  return addresses;
}

std::uint16_t port_in_entry(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word >> word >> word;
  const auto endpoint = tcp::endpoint_of(word);
  return endpoint ? endpoint->port() : 0;
}

}  // namespace

TEST_CASE("ranks connect through every form of rendezvous") {
  const PrivateDirectory place;
  for (const auto& form :
       {"dir:" + place.path(), fmt::format("tcp:127.0.0.1:{}", free_port()), std::string()}) {
    auto group = open_all(3, form);
    for (auto& end : group) REQUIRE_OK(end);
    require_alive(group, 0, 2);
    // All have met: nothing is left to find, or to leave behind should the job be killed.
    CHECK(place.empty());
    CHECK_FALSE(std::filesystem::exists(default_directory(job_of_this_test())));
  }
}

TEST_CASE("one rank alone needs nobody") {
  auto end = open_tcp(rank_options(0, 1, ""));
  REQUIRE_OK(end);
  CHECK((*end)->ranks() == 1);
  (*end)->wake();
  (*end)->progress(std::chrono::seconds(30));
}

TEST_CASE("world after world in the same place, without waiting for each other") {
  const PrivateDirectory place;
  const auto errors = on_ranks(3, [&](Rank rank) {
    for (int round = 0; round < 15; ++round) {
      auto end = open_tcp(rank_options(rank, 3, "dir:" + place.path()));
      if (!end.ok()) return fmt::format("round {}: {}", round, end.status().message());
      std::byte out{1}, in{};
      for (Rank distance = 1; distance < 3; ++distance) {
        const auto met =
            (*end)->exchange((rank + distance) % 3, std::span(&out, 1), (rank + 3 - distance) % 3,
                             std::span(&in, 1), Channel::control, soon());
        if (!met.ok()) return fmt::format("round {}: {}", round, met.message());
      }
    }
    return std::string("ok");
  });
  for (const auto& error : errors) CHECK(error == "ok");
}

TEST_CASE("a rank of another job is refused") {
  const PrivateDirectory place;
  auto group = open_all(2, "dir:" + place.path(), [](Options& options) {
    options.job += static_cast<std::uint64_t>(options.rank);
    options.connect_timeout = refused_after(options.rank);
  });
  CHECK(group[0].status().code() == ErrorCode::timed_out);
  CHECK(contains(group[0].status().message(), "of another job"));
  CHECK(group[1].status().code() == ErrorCode::protocol);
  CHECK(contains(group[1].status().message(), "another job"));
}

TEST_CASE("a rank with another secret is refused and told so") {
  const PrivateDirectory place;
  write_file(place.file("a"), "the one and only secret");
  write_file(place.file("b"), "quite another secret ...");
  ::mkdir(place.file("meet").c_str(), 0700);
  auto group = open_all(2, "dir:" + place.file("meet"), [&](Options& options) {
    options.secret_file = place.file(options.rank == 0 ? "a" : "b");
    options.connect_timeout = refused_after(options.rank);
  });
  INFO(group[0].status().message() << "\n" << group[1].status().message());
  CHECK(contains(group[0].status().message(), "with another secret"));
  CHECK(group[1].status().code() == ErrorCode::protocol);
  CHECK(contains(group[1].status().message(), "another secret; give all ranks the same"));
  for (auto& end : group) CHECK_FALSE(contains(end.status().message(), "the one and only"));
}

TEST_CASE("another number of ranks is refused") {
  const PrivateDirectory place;
  auto group = open_all(2, "dir:" + place.path(), [](Options& options) {
    options.ranks += options.rank;
    options.connect_timeout = refused_after(options.rank);
  });
  CHECK(contains(group[1].status().message(), "another number of ranks"));
}

TEST_CASE("checksums of bodies may be left out, by all ranks or none") {
  for (const std::string choice : {"remote", "off"}) {
    const PrivateDirectory place;
    auto group = open_all(2, "dir:" + place.path(),
                          [&](Options& options) { options.tcp_checksum = choice; });
    for (auto& end : group) REQUIRE_OK(end);
    require_alive(group);
  }
  const PrivateDirectory place;
  auto group = open_all(2, "dir:" + place.path(), [&](Options& options) {
    options.tcp_checksum = options.rank == 0 ? "on" : "off";
  });
  for (auto& end : group) REQUIRE_OK(end);
  std::vector<std::byte> bytes(8);
  static_cast<void>((*group[1])->send(0, Channel::control, bytes));
  const auto refused = (*group[0])->wait((*group[0])->receive(1, Channel::control, bytes), soon());
  CHECK(refused.code() == ErrorCode::protocol);
  CHECK(contains(refused.message(), "rank 1 at 127.0.0.1:"));
}

TEST_CASE("an address that is not loopback demands a secret") {
  const PrivateDirectory place;
  auto options = rank_options(0, 2, "dir:" + place.path());
  options.bind_address = "0.0.0.0";
  const auto refused = open_tcp(options);
  CHECK(refused.status().code() == ErrorCode::invalid_argument);
  CHECK(contains(refused.status().message(), "bind-address 0.0.0.0 is not loopback"));
  CHECK(contains(refused.status().message(), "DIST_SECRET_FILE"));

  write_file(place.file("secret file"), "a secret of some length");
  for (const auto& form : {"dir:" + place.path(), fmt::format("tcp:127.0.0.1:{}", free_port())}) {
    auto group = open_all(3, form, [&](Options& o) {
      o.bind_address = "0.0.0.0";
      o.secret_file = place.file("secret file");
    });
    for (auto& end : group) REQUIRE_OK(end);
    require_alive(group, 1, 2);
  }
}

TEST_CASE("only loopback is bound, and nothing once all are connected") {
  const PrivateDirectory place;
  const auto form = "dir:" + place.path();
  auto zero = std::async(std::launch::async, [&] { return open_tcp(rank_options(0, 2, form)); });
  while (!std::filesystem::exists(place.file("rank.0"))) ::usleep(500);
  CHECK(listening_addresses() == std::set<std::string>{"0100007F"});
  const auto one = open_tcp(rank_options(1, 2, form));
  REQUIRE_OK(one);
  const auto first = zero.get();
  REQUIRE_OK(first);
  CHECK(listening_addresses().empty());
}

TEST_CASE("ranks that do not come are named") {
  const PrivateDirectory place;
  auto group = on_ranks(2, [&](Rank rank) {
    auto options = rank_options(rank, 4, "dir:" + place.path());
    options.connect_timeout = std::chrono::milliseconds(300);
    return open_tcp(options);
  });
  for (auto& end : group) {
    CHECK(end.status().code() == ErrorCode::timed_out);
    CHECK(
        contains(end.status().message(), "missing: rank 2 (did not come), rank 3 (did not come)"));
  }
  CHECK(place.empty());
}

TEST_CASE("a listener that never answers is named, and given up while connecting") {
  const PrivateDirectory place;
  const PlainListener silent;
  const auto self = this_process();
  write_file(place.file("rank.0"), fmt::format("libdist 1 127.0.0.1:{} {} {} {}\n", silent.port(),
                                               self.pid, self.pid_namespace, self.start_ticks));
  auto options = rank_options(1, 2, "dir:" + place.path());
  options.connect_timeout = std::chrono::milliseconds(200);
  const auto opened = open_tcp(options);
  CHECK(opened.status().code() == ErrorCode::timed_out);
  CHECK(contains(opened.status().message(),
                 fmt::format("rank 0 (does not answer at 127.0.0.1:{})", silent.port())));
}

TEST_CASE("strangers before, during and after the start change nothing") {
  const PrivateDirectory place;
  const auto form = "dir:" + place.path();
  std::atomic<std::uint16_t> port = 0;
  Strangers strangers([&] {
    if (port == 0) port = port_in_entry(place.file("rank.0"));
    return port.load();
  });
  auto group = on_ranks(3, [&](Rank rank) {
    ::usleep(static_cast<useconds_t>(rank) * 150000);  // rank 0 listens alone for a while
    return open_tcp(rank_options(rank, 3, form));
  });
  for (auto& end : group) REQUIRE_OK(end);
  for (int i = 0; i < 20; ++i) require_alive(group, 0, 2);
  CHECK(strangers.finish() > 0);
}

TEST_CASE("strangers at the port of the rendezvous change nothing") {
  const auto port = free_port();
  Strangers strangers([&] { return port; });
  auto group = on_ranks(3, [&](Rank rank) {
    ::usleep(static_cast<useconds_t>(rank) * 150000);
    return open_tcp(rank_options(rank, 3, fmt::format("tcp:127.0.0.1:{}", port)));
  });
  for (auto& end : group) REQUIRE_OK(end);
  require_alive(group, 1, 2);
  CHECK(strangers.finish() > 0);
}

TEST_CASE("as many idle connections as may wait do not keep a rank out") {
  const PrivateDirectory place;
  const auto form = "dir:" + place.path();
  auto zero = std::async(std::launch::async, [&] { return open_tcp(rank_options(0, 2, form)); });
  while (!std::filesystem::exists(place.file("rank.0"))) ::usleep(500);
  const auto port = port_in_entry(place.file("rank.0"));
  std::vector<FileDescriptor> idle;
  for (int i = 0; i < 100; ++i) {
    idle.push_back(plain_connect(port));
    CHECK(idle.back().valid());
  }
  Group group;
  group.push_back(Status::cancelled("not yet"));
  group.push_back(open_tcp(rank_options(1, 2, form)));
  group[0] = zero.get();
  for (auto& end : group) REQUIRE_OK(end);
  require_alive(group);
}

TEST_CASE("descriptors do not leak") {
  const PrivateDirectory place;
  const auto form = "dir:" + place.path();
  const auto open_once = [&] {
    auto group = open_all(3, form);
    for (auto& end : group) REQUIRE_OK(end);
    auto alone = rank_options(0, 2, form);
    alone.connect_timeout = std::chrono::milliseconds(20);
    CHECK_FALSE(open_tcp(alone).ok());
  };
  open_once();
  const auto before = open_descriptors();
  for (int i = 0; i < 5; ++i) open_once();
  CHECK(open_descriptors() == before);
}

TEST_CASE("no socket survives exec") {
  const PrivateDirectory place;
  auto group = open_all(2, "dir:" + place.path());
  for (auto& end : group) REQUIRE_OK(end);
  std::size_t inherited = 0;
  for (int number = 3; number < 200; ++number) {
    const int flags = ::fcntl(number, F_GETFD);
    struct stat information {};
    if (flags >= 0 && ::fstat(number, &information) == 0 && S_ISSOCK(information.st_mode)) {
      inherited += (flags & FD_CLOEXEC) == 0 ? 1 : 0;
    }
  }
  CHECK(inherited == 0);
}

// The sanitizer looks at a thrown object through a pipe, for which there is no descriptor either:
// it starts where Asio no longer throws.
#if defined(__SANITIZE_ADDRESS__)
constexpr rlim_t kFewestSpare = 4;
#else
constexpr rlim_t kFewestSpare = 0;
#endif

TEST_CASE("running out of descriptors is an error, not an end") {
  const PrivateDirectory place;
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const auto highest = ::dup(0);
  ::close(highest);
  const auto descriptors = open_descriptors();
  for (rlim_t spare = kFewestSpare; spare < 12; ++spare) {
    const rlimit tight{static_cast<rlim_t>(highest) + spare, before.rlim_max};
    auto options = rank_options(0, 2, "dir:" + place.path());
    options.connect_timeout = std::chrono::milliseconds(30);
    ::setrlimit(RLIMIT_NOFILE, &tight);
    const auto opened = open_tcp(options);
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK_FALSE(opened.ok());
    CHECK_FALSE(opened.status().message().empty());
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("close delivers what was queued, and what it did not read does not destroy it") {
  const PrivateDirectory place;
  constexpr std::size_t kBytes = 20 << 20;
  auto group = open_all(2, "dir:" + place.path());
  for (auto& end : group) REQUIRE_OK(end);
  auto peer = std::async(std::launch::async, [&] {
    Transport& t = **group[1];
    std::vector<std::byte> in(kBytes);
    // Rank 0 never receives this.
    const std::vector<std::byte> unread(100000, std::byte{9});
    const auto sending = t.send(0, Channel::collective, unread);
    for (int i = 0; i < 5; ++i) t.progress(std::chrono::milliseconds(10));
    const auto received = t.wait(t.receive(0, Channel::collective, in), soon());
    if (!received.ok()) return received.message();
    static_cast<void>(t.wait(sending, soon()));
    return std::string(in == std::vector<std::byte>(kBytes, std::byte{5}) ? "ok" : "other bytes");
  });
  const std::vector<std::byte> out(kBytes, std::byte{5});
  static_cast<void>((*group[0])->send(1, Channel::collective, out));
  (*group[0])->close(std::chrono::seconds(20));
  CHECK(peer.get() == "ok");
}

TEST_CASE("the loss of one peer is told with rank and address and leaves the others alone") {
  const PrivateDirectory place;
  auto group = open_all(3, "dir:" + place.path());
  for (auto& end : group) REQUIRE_OK(end);
  *group[2] = nullptr;
  std::vector<std::byte> in(8);
  const auto lost = (*group[0])->wait((*group[0])->receive(2, Channel::to_server, in), soon());
  CHECK(lost.code() == ErrorCode::peer_lost);
  CHECK(contains(lost.message(), "rank 2 at 127.0.0.1:"));
  require_alive(group, 0, 1);
}
