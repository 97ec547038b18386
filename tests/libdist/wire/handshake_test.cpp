// SPDX-License-Identifier: Apache-2.0
// Both ends of the handshake without a network: golden bytes, every refusal, forgeries, garbage.
#include "libdist/wire/handshake.h"

#include <algorithm>
#include <random>
#include <string>

#include "tests/libdist/wire/hex.h"
#include "tests/support/catch.h"

using namespace dist::wire;
using dist::test::to_hex;

namespace {

constexpr std::uint64_t kJob = 0x1122334455667788;

Secret secret_from(int first) {
  std::vector<std::byte> bytes;
  for (int i = 0; i < 16; ++i) bytes.push_back(static_cast<std::byte>(first + i));
  return Secret(std::move(bytes));
}

Nonce nonce_of(int value) {
  Nonce nonce;
  nonce.fill(static_cast<std::byte>(value));
  return nonce;
}

Hello server_self() {
  return {.purpose = Purpose::channel, .job = kJob, .rank = 1, .ranks = 4, .to_rank = 1};
}

Hello client_hello() {
  return {.purpose = Purpose::channel,
          .channel = 2,
          .job = kJob,
          .epoch = 0,
          .rank = 3,
          .ranks = 4,
          .to_rank = 1};
}

// One whole handshake; the server's verdict.
Verdict meet(const Hello& hello, const Secret& server_secret, const Secret& client_secret) {
  ServerHandshake server(server_secret, nonce_of(0xa0), server_self());
  ClientHandshake client(client_secret, nonce_of(0xb0), hello);
  REQUIRE_OK(client.respond(server.challenge()));
  const auto verdict = server.judge(client.hello_bytes());
  const auto concluded = client.conclude(server.answer(verdict));
  if (concluded.ok()) CHECK(*concluded == verdict);
  return verdict;
}

}  // namespace

TEST_CASE("the handshake has its golden bytes") {
  const Secret secret = secret_from(0);
  ServerHandshake server(secret, nonce_of(0xa0), server_self());
  ClientHandshake client(secret, nonce_of(0xb0), client_hello());
  CHECK(to_hex(server.challenge()) ==
        "4449535401010000a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0");
  REQUIRE_OK(client.respond(server.challenge()));
  CHECK(to_hex(client.hello_bytes()) ==
        "4449535401020002887766554433221100000000030000000400000001000000"
        "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"
        "06bd3601d05b710f98016644464dbfc7a303b823249544325c2ce78eea6b40a7");
  REQUIRE(server.judge(client.hello_bytes()) == Verdict::welcome);
  CHECK(server.hello() == client_hello());
  const auto answer = server.answer(Verdict::welcome);
  CHECK(to_hex(answer) ==
        "44495354010300003545fbcf67e3da265e3f868964571c8759df03359e2a32e03715862695eae351");
  const auto verdict = client.conclude(answer);
  REQUIRE_OK(verdict);
  CHECK(*verdict == Verdict::welcome);
}

TEST_CASE("a client in the wrong place is told why") {
  const Secret secret = secret_from(0);
  CHECK(meet(client_hello(), secret, secret) == Verdict::welcome);

  Hello hello = client_hello();
  hello.job = 7;
  CHECK(meet(hello, secret, secret) == Verdict::job);
  hello = client_hello();
  hello.epoch = 1;
  CHECK(meet(hello, secret, secret) == Verdict::job);
  hello = client_hello();
  hello.ranks = 5;
  CHECK(meet(hello, secret, secret) == Verdict::ranks);
  hello = client_hello();
  hello.rank = 4;
  CHECK(meet(hello, secret, secret) == Verdict::ranks);
  hello = client_hello();
  hello.to_rank = 0;
  CHECK(meet(hello, secret, secret) == Verdict::wrong_rank);
  hello = client_hello();
  hello.rank = 1;
  CHECK(meet(hello, secret, secret) == Verdict::wrong_rank);
  hello = client_hello();
  hello.purpose = Purpose::rendezvous;
  CHECK(meet(hello, secret, secret) == Verdict::wrong_rank);
}

TEST_CASE("another secret is refused before any field is believed") {
  Hello hello = client_hello();
  hello.job = 7;
  CHECK(meet(hello, secret_from(0), secret_from(1)) == Verdict::authentication);
}

TEST_CASE("a server without the secret cannot welcome") {
  const Secret mine = secret_from(0);
  const Secret other = secret_from(1);
  ServerHandshake impostor(other, nonce_of(0xa0), server_self());
  ClientHandshake client(mine, nonce_of(0xb0), client_hello());
  REQUIRE_OK(client.respond(impostor.challenge()));
  CHECK(impostor.judge(client.hello_bytes()) == Verdict::authentication);
  auto forged = impostor.answer(Verdict::authentication);
  forged[6] = std::byte{0};  // welcome, without the proof
  const auto concluded = client.conclude(forged);
  CHECK(concluded.status().code() == dist::ErrorCode::protocol);
}

TEST_CASE("a recorded hello is worth nothing under another nonce") {
  const Secret secret = secret_from(0);
  ServerHandshake first(secret, nonce_of(0xa0), server_self());
  ClientHandshake client(secret, nonce_of(0xb0), client_hello());
  REQUIRE_OK(client.respond(first.challenge()));
  REQUIRE(first.judge(client.hello_bytes()) == Verdict::welcome);
  ServerHandshake second(secret, nonce_of(0xa1), server_self());
  CHECK(second.judge(client.hello_bytes()) == Verdict::authentication);
}

TEST_CASE("a proof cannot be reflected") {
  const Secret secret = secret_from(0);
  ServerHandshake server(secret, nonce_of(0xa0), server_self());
  ClientHandshake client(secret, nonce_of(0xb0), client_hello());
  REQUIRE_OK(client.respond(server.challenge()));
  REQUIRE(server.judge(client.hello_bytes()) == Verdict::welcome);
  const auto answer = server.answer(Verdict::welcome);
  // The server's proof as a client's ...
  std::array<std::byte, kHelloBytes> hello{};
  std::copy_n(client.hello_bytes().begin(), 64, hello.begin());
  std::copy(answer.begin() + 8, answer.end(), hello.begin() + 64);
  CHECK(server.judge(hello) == Verdict::authentication);
  // ... and the client's as a server's.
  auto reflected = answer;
  std::copy_n(client.hello_bytes().begin() + 64, kMacBytes, reflected.begin() + 8);
  CHECK_FALSE(client.conclude(reflected).ok());
}

TEST_CASE("every flipped bit of hello and answer is found") {
  const Secret secret = secret_from(0);
  ServerHandshake server(secret, nonce_of(0xa0), server_self());
  ClientHandshake client(secret, nonce_of(0xb0), client_hello());
  REQUIRE_OK(client.respond(server.challenge()));
  std::array<std::byte, kHelloBytes> hello{};
  std::copy(client.hello_bytes().begin(), client.hello_bytes().end(), hello.begin());
  for (std::size_t bit = 0; bit < kHelloBytes * 8; ++bit) {
    auto changed = hello;
    changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    CHECK(server.judge(changed) != Verdict::welcome);
  }
  REQUIRE(server.judge(hello) == Verdict::welcome);
  const auto answer = server.answer(Verdict::welcome);
  for (std::size_t bit = 0; bit < kAnswerBytes * 8; ++bit) {
    auto changed = answer;
    changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const auto verdict = client.conclude(changed);
    CHECK((!verdict.ok() || *verdict != Verdict::welcome));
  }
}

TEST_CASE("another version is named") {
  const Secret secret = secret_from(0);
  ServerHandshake server(secret, nonce_of(0xa0), server_self());
  ClientHandshake client(secret, nonce_of(0xb0), client_hello());
  std::vector<std::byte> challenge(server.challenge().begin(), server.challenge().end());
  challenge[4] = std::byte{9};
  CHECK(client.respond(challenge).message() == "speaks version 9 of the handshake, this rank 1");
  REQUIRE_OK(client.respond(server.challenge()));
  std::vector<std::byte> hello(client.hello_bytes().begin(), client.hello_bytes().end());
  hello[4] = std::byte{9};
  CHECK(server.judge(hello) == Verdict::version);
}

TEST_CASE("garbage and cut messages are refused in every state") {
  const Secret secret = secret_from(0);
  std::mt19937 random(11);
  std::vector<std::byte> bytes;
  std::size_t welcomed = 0;
  for (int round = 0; round < 20000; ++round) {
    ServerHandshake server(secret, nonce_of(0xa0), server_self());
    ClientHandshake client(secret, nonce_of(0xb0), client_hello());
    bytes.resize(random() % 130);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random() & 0xff);
    // Half of the rounds begin as a good message would.
    if (round % 2 == 0) {
      const auto good = server.challenge();
      std::copy_n(good.begin(), std::min<std::size_t>(bytes.size(), 5), bytes.begin());
    }
    static_cast<void>(client.respond(bytes));
    const auto verdict = server.judge(bytes);
    welcomed += verdict == Verdict::welcome ? 1 : 0;
    static_cast<void>(server.answer(verdict));
    REQUIRE_OK(client.respond(server.challenge()));
    const auto concluded = client.conclude(bytes);
    welcomed += concluded.ok() && *concluded == Verdict::welcome ? 1 : 0;
    const auto hello = client.hello_bytes();
    welcomed += server.judge(hello.first(bytes.size() % kHelloBytes)) == Verdict::welcome ? 1 : 0;
  }
  CHECK(welcomed == 0);
}
