// SPDX-License-Identifier: Apache-2.0
// The door of an elastic world: who takes whose place, and whoever else knocks while a job trains.
#include "libdist/transport/tcp_door.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <atomic>
#include <fstream>

#include "libdist/dist.h"
#include "libdist/transport/secret_file.h"
#include "libdist/transport/tcp.h"
#include "tests/libdist/transport/strangers.h"
#include "tests/libdist/transport/tcp_support.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

using namespace dist;
using namespace dist::test;

namespace {

Options elastic_options(Rank rank, int ranks, const std::string& rendezvous,
                        std::uint32_t incarnation = 0) {
  Options options = rank_options(rank, ranks, rendezvous);
  options.transport = "tcp";
  options.placement = Placement::dedicated;
  options.elastic = true;
  options.incarnation = incarnation;
  options.log = "quiet";
  return options;
}

std::uint16_t port_of(const PrivateDirectory& place, Rank rank) {
  std::ifstream file(place.file(fmt::format("rank.{}", rank)));
  std::string word;
  file >> word >> word >> word;
  const auto endpoint = tcp::endpoint_of(word);
  return endpoint ? endpoint->port() : 0;
}

TimePoint soon() { return Clock::now() + std::chrono::seconds(30); }

// What a worker says is what the server hears.
void require_heard(Transport& worker, Transport& server, std::byte word) {
  std::byte heard{};
  const auto sending = worker.send(server.rank(), Channel::to_server, std::span(&word, 1));
  const auto hearing = server.receive(worker.rank(), Channel::to_server, std::span(&heard, 1));
  REQUIRE_OK(worker.wait(sending, soon()));
  REQUIRE_OK(server.wait(hearing, soon()));
  REQUIRE(heard == word);
}

void await_incarnation(Transport& server, std::uint32_t incarnation) {
  const auto limit = soon();
  while (server.incarnation(0) != incarnation && Clock::now() < limit) {
    server.progress(std::chrono::milliseconds(5));
  }
  REQUIRE(server.incarnation(0) == incarnation);
}

TEST_CASE("a later life takes the place, an earlier one is refused, and nobody else is met") {
  const PrivateDirectory place;
  const auto form = "dir:" + place.path();
  auto server = open_tcp(elastic_options(2, 3, form)).value();
  REQUIRE(server->incarnation(0) == std::nullopt);
  auto first = open_tcp(elastic_options(0, 3, form)).value();
  await_incarnation(*server, 0);
  require_heard(*first, *server, std::byte{1});
  const auto to_neighbour = first->send(1, Channel::to_server, {});
  REQUIRE(first->finished(to_neighbour));
  REQUIRE(first->take(to_neighbour).code() == ErrorCode::peer_lost);

  std::byte word{};
  const auto pending = server->receive(0, Channel::to_server, std::span(&word, 1));
  auto second = open_tcp(elastic_options(0, 3, form, 3)).value();
  await_incarnation(*server, 3);
  REQUIRE(server->finished(pending));
  REQUIRE(contains(server->take(pending).message(), "incarnation 3"));
  require_heard(*second, *server, std::byte{2});
  // The old life cannot speak any more.
  const auto late = first->send(2, Channel::to_server, std::span(&word, 1));
  REQUIRE(first->wait(late, soon()).code() == ErrorCode::peer_lost);
  for (const std::uint32_t earlier : {0u, 2u, 3u}) {
    const auto refused = open_tcp(elastic_options(0, 3, form, earlier));
    REQUIRE_FALSE(refused.ok());
    REQUIRE(contains(refused.status().message(), "raise DIST_INCARNATION"));
  }
  require_heard(*second, *server, std::byte{3});
  server->disconnect(0, Status::peer_lost("enough"));
  const auto after = server->receive(0, Channel::to_server, std::span(&word, 1));
  REQUIRE(server->take(after).message() == "enough");
}

TEST_CASE("across hosts every server listens at a port that all know") {
  const auto form = fmt::format("tcp:127.0.0.1:{},localhost:{}", free_port(), free_port());
  const auto options = [&](Rank rank) {
    auto chosen = elastic_options(rank, 3, form);
    chosen.servers = 2;
    return chosen;
  };
  // The worker is first: it waits for both servers.
  auto ends = on_ranks(3, [&](Rank rank) {
    if (rank != 0) ::usleep(100'000);
    return open_tcp(options(rank));
  });
  for (const auto& end : ends) REQUIRE_OK(end);
  for (const std::size_t server : {1, 2}) {
    await_incarnation(**ends[server], 0);
    require_heard(**ends[0], **ends[server], std::byte{7});
  }
  auto few = options(0);
  few.servers = 1;
  REQUIRE(contains(open_tcp(few).status().message(), "2 addresses for 1 servers"));
}

// --- Whoever else knocks -------------------------------------------------------------------------

bool read_all(const FileDescriptor& socket, std::span<std::byte> into) {
  return ::recv(socket.number(), into.data(), into.size(), MSG_WAITALL) ==
         static_cast<ssize_t>(into.size());
}

/// One who knows the secret, or has listened.
struct Visit {
  FileDescriptor socket;
  std::array<std::byte, wire::kChallengeBytes> challenge{};

  explicit Visit(std::uint16_t port) : socket(plain_connect(port)) {
    expect(socket.valid() && read_all(socket, challenge), "no challenge");
  }
  wire::Verdict say(std::span<const std::byte> hello) const {
    plain_send(socket, hello);
    std::array<std::byte, wire::kAnswerBytes> answer{};
    expect(read_all(socket, answer), "no answer");
    return static_cast<wire::Verdict>(answer[6]);
  }
};

std::vector<std::byte> hello_for(const wire::Secret& secret, const Visit& visit,
                                 const wire::Hello& hello) {
  wire::ClientHandshake handshake(secret, random_nonce().value(), hello);
  expect_ok(handshake.respond(visit.challenge));
  const auto bytes = handshake.hello_bytes();
  return {bytes.begin(), bytes.end()};
}

// Every kind of visitor once; how many of them were turned away.
int knock(std::uint16_t port, const wire::Secret& secret, const Options& options) {
  const wire::Hello good{.purpose = wire::Purpose::channel,
                         .channel = 1,
                         .job = options.job,
                         .epoch = 9,
                         .rank = 0,
                         .ranks = 3,
                         .to_rank = 2};
  const Visit overheard(port);
  const auto hello = hello_for(secret, overheard, good);
  expect(Visit(port).say(hello) == wire::Verdict::authentication, "a replayed hello");
  auto other = good;
  other.job += 1;
  Visit visit(port);
  expect(visit.say(hello_for(secret, visit, other)) == wire::Verdict::job, "another job");
  other = good;
  other.rank = 2;
  Visit server(port);
  expect(server.say(hello_for(secret, server, other)) == wire::Verdict::wrong_rank, "a server");
  other = good;
  other.epoch = 0;
  Visit old(port);
  expect(old.say(hello_for(secret, old, other)) == wire::Verdict::superseded, "an old life");
  const std::vector<std::byte> flood(1 << 20, std::byte{0xff});
  plain_send(Visit(port).socket, flood);
  const Visit slow(port);
  for (const std::byte byte : std::span(hello).first(5)) {
    plain_send(slow.socket, std::span(&byte, 1));
    ::usleep(2000);
  }
  return 5;
}

// Two workers and a server as threads; the parameters at the end.
std::vector<float> train(const PrivateDirectory& place, std::uint64_t* refused,
                         const std::atomic<bool>* go_on) {
  std::vector<float> end;
  const auto problems = on_ranks(3, [&](Rank rank) {
    auto world = World::open(elastic_options(rank, 3, "dir:" + place.path(), 1)).value();
    auto arena = Arena::create({{"a", Elems(1000)}, {"b", Elems(3)}}).value();
    const auto strategy =
        make_strategy("sync-ps", world, arena, Momentum{.learning_rate = 0.1}).value();
    auto outcome = strategy->begin();
    for (int step = 0; rank != 2 && outcome.ok() && step < 60; ++step) {
      for (const std::size_t p : {0, 1}) {
        float value = static_cast<float>(step % 7 + rank);
        for (float& g : arena.gradient_span<float>(p)) g = value += 0.37f;
        strategy->ready(p);
      }
      outcome = strategy->finish_step().status();
      while (step == 30 && go_on != nullptr && !*go_on) ::usleep(500);
    }
    if (outcome.ok()) outcome = strategy->end();
    if (rank == 0) {
      const auto span = arena.parameter_span<float>(0);
      end.assign(span.begin(), span.end());
    }
    if (rank == 2) *refused = world.progress().counters().connections_refused;
    return outcome;
  });
  for (const Status& outcome : problems) REQUIRE_OK(outcome);
  return end;
}

TEST_CASE("who knocks at the open door is refused and counted, and the job is undisturbed") {
  const PrivateDirectory quiet_place;
  std::uint64_t refused = 0;
  const auto quiet = train(quiet_place, &refused, nullptr);
  REQUIRE(refused == 0);

  const PrivateDirectory place;
  std::atomic<bool> knocked = false;
  Strangers strangers([&] { return port_of(place, 2); });
  auto visitors = std::async(std::launch::async, [&] {
    const auto options = elastic_options(2, 3, "");
    int turned_away = 0;
    while (port_of(place, 2) == 0) ::usleep(500);
    ::usleep(300'000);  // both workers are in, so an earlier life of one is superseded
    const auto secret = read_secret_file(AT_FDCWD, place.file("secret")).value();
    for (int round = 0; round < 10; ++round)
      turned_away += knock(port_of(place, 2), secret, options);
    knocked = true;
    return turned_away;
  });
  const auto disturbed = train(place, &refused, &knocked);
  const int visits = strangers.finish();
  REQUIRE(visits > 0);
  REQUIRE(refused >= static_cast<std::uint64_t>(visitors.get()));
  REQUIRE(disturbed == quiet);
}

}  // namespace
