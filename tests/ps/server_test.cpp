// SPDX-License-Identifier: Apache-2.0
// The server alone, against workers that speak to it byte by byte: honest, hostile, slow and lost.
#include "ps/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using namespace dist::ps;
using test::expect;
using test::expect_ok;

constexpr std::uint64_t kHash = 77;

// Two workers on ranks 0 and 1, the server on rank 2, others behind it; pieces of 8 elements.
struct Setup {
  int workers = 2;
  std::uint64_t pieces = 3;
  std::uint64_t piece_elems = 8;
  Rules rules = Rules::from(Mode::sync, Options{});
  Duration timeout = std::chrono::seconds(20);
  Bytes staging = 1_MiB;
  bool priority = false;
  int threads = 0;
  int servers = 1;
  Update update = Sgd{.learning_rate = -1};
  std::shared_ptr<std::atomic<int>> begun = std::make_shared<std::atomic<int>>(0);

  Roles roles() const { return {workers, servers, Placement::dedicated}; }
  std::uint64_t elems() const { return pieces * piece_elems; }
  Arena arena() const { return Arena::create({{"all", Elems(elems())}}).value(); }
  std::shared_ptr<const ShardMap> map() const {
    return std::make_shared<const ShardMap>(make_shard_map(
        {{{0, elems()}, 0, 1}},
        {.servers = servers, .min_piece = 1_B, .max_piece = Bytes(piece_elems * sizeof(float))}));
  }
};

// Runs the server to its end and says how it ended.
Status serve(const Setup& setup, Transport& transport) {
  auto arena = setup.arena();
  Trace trace(transport.rank(), false);
  ServerOptions options;
  options.roles = setup.roles();
  options.map = setup.map();
  options.rules = setup.rules;
  options.update = setup.update;
  options.layout_hash = kHash;
  options.timeout = setup.timeout;
  options.staging_per_worker = setup.staging;
  options.priority = setup.priority;
  options.threads = setup.threads;
  auto server = Server::create(std::move(options), arena, trace).value();
  const auto task = Server::make_task(server);
  Status outcome;
  const auto limit = Clock::now() + std::chrono::seconds(30);
  for (;;) {
    expect(Clock::now() < limit, "the server does not end: {}", task->waits_for());
    const auto result = task->advance(transport);
    if (!result.ok() || *result == Advance::finished) {
      outcome = result.status();
      break;
    }
    transport.progress(*result == Advance::idle ? std::chrono::milliseconds(5) : Duration(0));
  }
  transport.close(std::chrono::milliseconds(100));
  return outcome;
}

// A worker that sends exactly what it is told to.
class RawWorker {
 public:
  RawWorker(const Setup& setup, Transport& transport)
      : transport_(transport),
        map_(setup.map()),
        server_(setup.workers),
        piece_elems_(setup.piece_elems),
        begun_(setup.begun),
        expected_{Direction::to_worker,
                  static_cast<std::uint32_t>(setup.workers),
                  static_cast<std::uint32_t>(transport.rank()),
                  map_.get(),
                  0,
                  DType::f32} {}

  void send(std::span<const std::byte> bytes) {
    expect_ok(transport_.wait(transport_.send(server_, Channel::to_server, bytes), deadline()));
  }
  void send(Header header) {
    header.worker = expected_.worker;
    send(std::span<const std::byte>(encode(header)));
  }
  void send_piece(Kind kind, std::uint32_t piece, std::uint64_t step, std::uint64_t version,
                  float value) {
    const std::vector<float> payload(piece_elems_, value);
    send({.kind = kind,
          .piece = piece,
          .step = step,
          .version = version,
          .payload_bytes = piece_elems_ * sizeof(float)});
    send(std::as_bytes(std::span(payload)));
  }

  Header receive() {
    HeaderBytes bytes;
    expect_ok(transport_.wait(transport_.receive(server_, Channel::to_worker, bytes), deadline()));
    return decode(bytes, expected_).value();
  }
  Header receive(Kind kind) {
    const auto header = receive();
    expect(header.kind == kind, "a {} came, not a {}", name_of(header.kind), name_of(kind));
    return header;
  }
  void receive_reply(std::uint32_t piece, std::uint64_t step, std::uint64_t version, float value) {
    const auto header = receive(Kind::reply);
    expect(header.piece == piece && header.step == step && header.version == version,
           "reply of piece {}, step {}, version {}", header.piece, header.step, header.version);
    receive_payload(value);
  }
  void receive_payload(float value) {
    std::vector<float> payload(piece_elems_);
    const auto bytes = std::as_writable_bytes(std::span(payload));
    const auto operation = transport_.receive(server_, Channel::to_worker, bytes);
    expect_ok(transport_.wait(operation, deadline()));
    for (const float got : payload) {
      if (got != value) expect(false, "{} is not {}", got, value);
    }
  }

  void greet() {
    send({.kind = Kind::hello, .value = kHash});
    expect(receive(Kind::welcome).value == kHash, "the server's hash");
  }
  // Everything up to the first step, which all workers begin together.
  void begin(std::uint32_t pieces) {
    greet();
    for (std::uint32_t p = 0; p < pieces && expected_.worker == 0; ++p) {
      send_piece(Kind::init, p, 0, 0, static_cast<float>(p));
    }
    pull(0, pieces, 0);
    ++*begun_;
    const auto limit = deadline();
    while (*begun_ < static_cast<int>(expected_.workers)) {
      expect(Clock::now() < limit, "the other workers do not begin");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void pull(std::uint64_t step, std::uint32_t pieces, float added) {
    send({.kind = Kind::pull, .step = step});
    for (std::uint32_t p = 0; p < pieces; ++p) {
      receive_reply(p, step, step, static_cast<float>(p) + added);
    }
  }
  void bye() {
    send({.kind = Kind::bye});
    receive(Kind::farewell);
  }

 private:
  static TimePoint deadline() { return Clock::now() + std::chrono::seconds(10); }

  Transport& transport_;
  std::shared_ptr<const ShardMap> map_;
  const Rank server_;
  const std::uint64_t piece_elems_;
  const std::shared_ptr<std::atomic<int>> begun_;
  const Expectation expected_;
};

// Runs the server against one body a worker; each is gone when its body returns.
Status run(const Setup& setup, const std::function<void(RawWorker&, int)>& body) {
  Status outcome;
  std::atomic<bool> served{false};
  test::run_transports("shm", setup.workers + setup.servers, [&](Transport& transport) {
    // Another server, which says nothing.
    while (transport.rank() > setup.workers && !served) {
      transport.progress(std::chrono::milliseconds(5));
    }
    if (transport.rank() == setup.workers) {
      outcome = serve(setup, transport);
      served = true;
    }
    if (transport.rank() >= setup.workers) return;
    RawWorker worker(setup, transport);
    body(worker, transport.rank());
    transport.close(std::chrono::milliseconds(100));
  });
  return outcome;
}

TEST_CASE("a server whose norms do not come is named, not a worker") {
  Setup setup;
  setup.servers = 2;
  setup.pieces = 2;
  setup.timeout = std::chrono::milliseconds(200);
  setup.update.clip_norm = 1;
  const auto outcome = run(setup, [](RawWorker& worker, int) {
    worker.begin(1);
    worker.send_piece(Kind::push, 0, 0, 0, 1);
    worker.send({.kind = Kind::pull, .step = 1});
    const auto failed = worker.receive(Kind::failed);
    expect(failed.worker == kNobody, "no worker is to blame");
    expect(failed.code == ErrorCode::timed_out, "it took too long");
  });
  REQUIRE(outcome.code() == ErrorCode::timed_out);
  REQUIRE(outcome.message().find("norms of step 0 -> another server (rank 3) missing for 1.2") !=
          std::string::npos);
}

TEST_CASE("an honest conversation, message by message") {
  const Setup setup;
  const auto outcome = run(setup, [](RawWorker& worker, int rank) {
    worker.begin(3);
    for (std::uint64_t step = 0; step < 4; ++step) {
      for (std::uint32_t p = 0; p < 3; ++p) {
        worker.send_piece(Kind::push, p, step, step, rank == 0 ? 1.0f : 3.0f);
      }
      // The mean of 1 and 3, once a step.
      worker.pull(step + 1, 3, 2.0f * static_cast<float>(step + 1));
    }
    worker.bye();
  });
  REQUIRE_OK(outcome);
}

TEST_CASE("within a step pieces and pull come in any order, with and without threads") {
  for (const int threads : {0, 2}) {
    const Setup setup{.pieces = 6, .priority = true, .threads = threads};
    const auto outcome = run(setup, [](RawWorker& worker, int rank) {
      worker.greet();
      for (std::uint32_t p = 0; p < 6 && rank == 0; ++p) {
        worker.send_piece(Kind::init, p, 0, 0, static_cast<float>(p));
      }
      const auto pull_all = [&](std::uint64_t step) {
        std::vector<std::uint32_t> seen;
        for (int i = 0; i < 6; ++i) {
          const auto header = worker.receive(Kind::reply);
          expect(header.step == step && header.version == step, "step and version");
          worker.receive_payload(static_cast<float>(header.piece) +
                                 2.0f * static_cast<float>(step));
          seen.push_back(header.piece);
        }
        return seen;
      };
      worker.send({.kind = Kind::pull, .step = 0});
      pull_all(0);
      for (std::uint64_t step = 0; step < 4; ++step) {
        const auto push = [&](std::uint32_t p) {
          worker.send_piece(Kind::push, p, step, step, rank == 0 ? 1.0f : 3.0f);
        };
        if (rank == 0) {
          for (const std::uint32_t p : {5, 0, 3}) push(p);
          worker.send({.kind = Kind::pull, .step = step + 1});
          for (const std::uint32_t p : {4, 1, 2}) push(p);
        } else {
          worker.send({.kind = Kind::pull, .step = step + 1});
          for (const std::uint32_t p : {0, 1, 2, 3, 4, 5}) push(p);
        }
        auto seen = pull_all(step + 1);
        std::sort(seen.begin(), seen.end());
        expect(seen == std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5}, "every piece once");
      }
      worker.bye();
    });
    REQUIRE_OK(outcome);
  }
}

TEST_CASE("what can be answered at once comes last piece first") {
  for (const bool priority : {true, false}) {
    const Setup setup{.workers = 1, .pieces = 5, .priority = priority};
    const auto outcome = run(setup, [&](RawWorker& worker, int) {
      worker.greet();
      for (std::uint32_t p = 0; p < 5; ++p) worker.send_piece(Kind::init, p, 0, 0, 0);
      worker.send({.kind = Kind::pull, .step = 0});
      for (std::uint32_t i = 0; i < 5; ++i) {
        const auto piece = worker.receive(Kind::reply).piece;
        expect(piece == (priority ? 4 - i : i), "piece {} came", piece);
        worker.receive_payload(0);
      }
      worker.bye();
    });
    REQUIRE_OK(outcome);
  }
}

TEST_CASE("workers may end after different numbers of steps") {
  const auto outcome = run({}, [](RawWorker& worker, int rank) {
    worker.begin(3);
    float added = 0;
    for (std::uint64_t step = 0; step < (rank == 0 ? 1u : 3u); ++step) {
      for (std::uint32_t p = 0; p < 3; ++p) worker.send_piece(Kind::push, p, step, step, 1);
      added += 1;
      worker.pull(step + 1, 3, added);
    }
    worker.bye();
  });
  REQUIRE_OK(outcome);
}

TEST_CASE("a message out of turn stops the server, and everybody learns whose it was") {
  using Offence = std::function<void(RawWorker&)>;
  const auto push = [](std::uint32_t piece, std::uint64_t step, std::uint64_t version) {
    return [=](RawWorker& w) { w.send_piece(Kind::push, piece, step, version, 1); };
  };
  const std::vector<std::pair<std::string, Offence>> offences = {
      {"a second hello", [](RawWorker& w) { w.send({.kind = Kind::hello, .value = kHash}); }},
      {"init from worker 1", [](RawWorker& w) { w.send_piece(Kind::init, 0, 0, 0, 1); }},
      {"a step too early", push(0, 1, 0)},
      {"a version it was not given", push(0, 0, 5)},
      {"the same piece twice",
       [=](RawWorker& w) {
         push(0, 0, 0)(w);
         push(0, 0, 0)(w);
       }},
      {"bye within a step",
       [=](RawWorker& w) {
         push(0, 0, 0)(w);
         w.send({.kind = Kind::bye});
       }},
      {"a pull while another one waits",
       [=](RawWorker& w) {
         push(0, 0, 0)(w);
         w.send({.kind = Kind::pull, .step = 1});
         w.send({.kind = Kind::pull, .step = 1});
       }},
      {"pull of a step that is not the next",
       [](RawWorker& w) { w.send({.kind = Kind::pull, .step = 2}); }},
      {"a push of the next step before its parameters are there",
       [=](RawWorker& w) {
         for (std::uint32_t p = 0; p < 3; ++p) push(p, 0, 0)(w);
         w.send({.kind = Kind::pull, .step = 1});
         push(0, 1, 1)(w);
       }},
      {"bye while a pull waits",
       [](RawWorker& w) {
         w.send({.kind = Kind::pull, .step = 1});
         w.send({.kind = Kind::bye});
       }},
      {"save from another than worker 0", [](RawWorker& w) { w.send({.kind = Kind::save}); }},
      {"another worker's name",
       [](RawWorker& w) {
         w.send(std::span<const std::byte>(encode({.kind = Kind::bye, .worker = 0})));
       }},
      {"garbage", [](RawWorker& w) { w.send(HeaderBytes{}); }},
      {"a message of another size", [](RawWorker& w) { w.send(std::as_bytes(std::span("ab"))); }},
  };
  for (const auto& [name, offence] : offences) {
    INFO(name);
    const auto outcome = run({}, [&, &commit = offence](RawWorker& worker, int rank) {
      worker.begin(3);
      if (rank == 1) return commit(worker);
      const auto failed = worker.receive(Kind::failed);
      expect(failed.worker == 1, "the blame is worker 1's");
      expect(failed.code == ErrorCode::protocol, "for breaking the protocol");
    });
    INFO(outcome.message());
    REQUIRE(outcome.code() == ErrorCode::protocol);
    REQUIRE(outcome.message().find("sync-ps: server 0 (rank 2)") == 0);
    REQUIRE(outcome.message().find("worker 1 (rank 1)") != std::string::npos);
  }
}

TEST_CASE("another layout is refused before anybody trains") {
  const Setup setup;
  const auto outcome = run(setup, [&](RawWorker& worker, int rank) {
    if (rank == 1) {
      while (*setup.begun == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      worker.send({.kind = Kind::hello, .value = kHash + 1});
      expect(worker.receive(Kind::welcome).value == kHash, "the server says its own");
      return;
    }
    worker.greet();
    for (std::uint32_t p = 0; p < 3; ++p) worker.send_piece(Kind::init, p, 0, 0, 0);
    worker.send({.kind = Kind::pull, .step = 0});
    ++*setup.begun;
    expect(worker.receive(Kind::failed).code == ErrorCode::invalid_argument, "not a reply");
  });
  REQUIRE(outcome.code() == ErrorCode::invalid_argument);
  REQUIRE(outcome.message().find("worker 1 (rank 1)") != std::string::npos);
  REQUIRE(outcome.message().find("layout") != std::string::npos);
}

TEST_CASE("workers that keep a step waiting for too long are named, with the step") {
  std::atomic<bool> told{false};
  const Setup setup{.workers = 3, .timeout = std::chrono::milliseconds(300)};
  const auto outcome = run(setup, [&](RawWorker& worker, int rank) {
    worker.begin(3);
    for (std::uint32_t p = 0; p < 3; ++p) worker.send_piece(Kind::push, p, 0, 0, 1);
    worker.pull(1, 3, 1);
    if (rank != 1) {  // alive, but it does not come
      while (!told) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return;
    }
    worker.send_piece(Kind::push, 0, 1, 1, 1);
    const auto failed = worker.receive(Kind::failed);
    told = true;
    expect(failed.worker == 0, "the first of those who are missing");
    expect(failed.code == ErrorCode::timed_out, "for being late");
  });
  REQUIRE(outcome.code() == ErrorCode::timed_out);
  INFO(outcome.message());
  REQUIRE(outcome.message().find("step 1") != std::string::npos);
  REQUIRE(outcome.message().find("workers 0 (rank 0), 2 (rank 2) missing") != std::string::npos);
}

TEST_CASE("a worker that never greets is missed by those who want to begin") {
  std::atomic<bool> told{false};
  const Setup setup{.timeout = std::chrono::milliseconds(300)};
  const auto outcome = run(setup, [&](RawWorker& worker, int rank) {
    if (rank == 1) {
      while (!told) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return;
    }
    worker.greet();
    for (std::uint32_t p = 0; p < 3; ++p) worker.send_piece(Kind::init, p, 0, 0, 0);
    worker.send({.kind = Kind::pull, .step = 0});
    expect(worker.receive(Kind::failed).worker == 1, "the one that is missing");
    told = true;
  });
  REQUIRE(outcome.code() == ErrorCode::timed_out);
  REQUIRE(outcome.message().find("worker 1 (rank 1) missing") != std::string::npos);
}

TEST_CASE("a lost worker stops the server, under every policy, and the others are told") {
  for (const auto mode : {Mode::sync, Mode::async}) {
    const Setup setup{.rules = Rules::from(mode, Options{})};
    const auto outcome = run(setup, [](RawWorker& worker, int rank) {
      worker.begin(3);
      if (rank == 1) return;
      const auto failed = worker.receive(Kind::failed);
      expect(failed.worker == 1 && failed.code == ErrorCode::peer_lost, "who was lost");
    });
    REQUIRE(outcome.code() == ErrorCode::peer_lost);
    REQUIRE(outcome.message().find("worker 1 (rank 1)") != std::string::npos);
  }
}

TEST_CASE("a fast worker is held up by its quota, not let in without bound") {
  // Room for one piece a worker: more of worker 0's pushes are received only as pieces complete.
  const Setup setup{.pieces = 50, .staging = 0_B};
  const auto outcome = run(setup, [](RawWorker& worker, int rank) {
    worker.begin(50);
    if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    for (std::uint32_t p = 0; p < 50; ++p) worker.send_piece(Kind::push, p, 0, 0, 2);
    worker.pull(1, 50, 2);
    worker.bye();
  });
  REQUIRE_OK(outcome);
}

TEST_CASE("a reply holds one version although pushes are applied while it is on its way") {
  // Too large for a transport to hold, so half of it leaves only when worker 1 reads on.
  const Setup setup{.pieces = 1,
                    .piece_elems = 1 << 22,
                    .rules = Rules::from(Mode::async, Options{}),
                    .staging = 64_MiB};
  std::atomic<bool> asked{false};
  std::atomic<bool> pushed{false};
  const auto outcome = run(setup, [&](RawWorker& worker, int rank) {
    worker.begin(1);
    if (rank == 1) {
      worker.send_piece(Kind::push, 0, 0, 0, 1);
      worker.send({.kind = Kind::pull, .step = 1});
      asked = true;
      while (!pushed) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const auto version = worker.receive(Kind::reply).version;
      worker.receive_payload(static_cast<float>(version));
      worker.bye();
      return;
    }
    while (!asked) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::uint64_t version = 0;
    for (std::uint64_t step = 0; step < 5; ++step) {
      worker.send_piece(Kind::push, 0, step, version, 1);
      worker.send({.kind = Kind::pull, .step = step + 1});
      version = worker.receive(Kind::reply).version;
      worker.receive_payload(static_cast<float>(version));
    }
    pushed = true;
    worker.bye();
  });
  REQUIRE_OK(outcome);
}

}  // namespace
