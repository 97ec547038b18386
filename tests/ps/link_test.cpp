// SPDX-License-Identifier: Apache-2.0
// What a link holds of the messages that it sends. How it receives is in server_test.cpp.
#include "ps/link.h"

#include <map>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::ps;

// Whose sends end when the test says so.
class HandTransport final : public Transport {
 public:
  void end(std::uint64_t id, Status outcome = {}) { ended_[id] = std::move(outcome); }

  std::string_view name() const override { return "hand"; }
  Rank rank() const override { return 1; }
  int ranks() const override { return 2; }
  TransferCounters counters() const override { return {}; }
  Operation send(Rank, Channel, std::span<const std::byte>) override { return {++sends_}; }
  Operation receive(Rank, Channel, std::span<std::byte>) override { return {0}; }
  void progress(Duration) override {}
  void wake() override {}
  bool finished(Operation operation) const override { return ended_.contains(operation.id); }
  Status take(Operation operation) override {
    const Status outcome = ended_.at(operation.id);
    ended_.erase(operation.id);
    return outcome;
  }
  void close(Duration) override {}

 private:
  std::uint64_t sends_ = 0;
  std::map<std::uint64_t, Status> ended_;
};

// Three replies with parameters in place; each is two sends: 1 and 2, 3 and 4, 5 and 6.
struct Setup {
  Setup() {
    for (std::size_t& count : in_place) {
      Link::Sent sent;
      sent.in_place = ReadInPlace(&++count);
      link.send(transport, {.kind = Kind::reply}, parameters, std::move(sent));
    }
  }

  HandTransport transport;
  std::vector<std::byte> parameters = std::vector<std::byte>(64);
  std::array<std::size_t, 3> in_place{};
  Link link{0, {}};
};

using Counts = std::array<std::size_t, 3>;

TEST_CASE("parameters are read in place until header and payload have left, in order") {
  Setup s;
  CHECK(s.in_place == Counts{1, 1, 1});
  s.transport.end(1);
  s.transport.end(3);
  s.transport.end(4);
  REQUIRE(s.link.reap(s.transport).value());
  CHECK(s.in_place == Counts{1, 1, 1});
  CHECK(s.link.payload_in_flight() == Bytes(192));
  s.transport.end(2);
  REQUIRE(s.link.reap(s.transport).value());
  CHECK(s.in_place == Counts{0, 0, 1});
  CHECK(s.link.sends_in_flight() == 1);
  CHECK(s.link.payload_in_flight() == Bytes(64));
}

// Else nobody would ever write them again, though others train on.
TEST_CASE("a worker that is lost leaves nothing behind of which it was still sent parameters") {
  Setup s;
  for (const std::uint64_t id : {1, 2, 3}) s.transport.end(id);
  for (const std::uint64_t id : {4, 5, 6}) s.transport.end(id, Status::peer_lost("gone"));
  CHECK(s.link.reap(s.transport).status().code() == ErrorCode::peer_lost);
  CHECK(s.in_place == Counts{0, 1, 1});
  s.link.abandon(s.transport);
  CHECK(s.in_place == Counts{});
  CHECK(s.link.sends_in_flight() == 0);
}

}  // namespace
