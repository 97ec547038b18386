// SPDX-License-Identifier: Apache-2.0
// The worker's tasks alone, against a server that speaks to them byte by byte.
#include "ps/worker.h"

#include <fmt/format.h>

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
constexpr std::uint64_t kElems = 16;
constexpr std::size_t kBuckets = 2;  // of one piece each

const Roles kRoles{1, 1, Placement::dedicated};

std::shared_ptr<const ShardMap> small_map() {
  return std::make_shared<const ShardMap>(
      make_shard_map({{{0, kElems}, 0, 1}, {{kElems, 2 * kElems}, 1, 2}}, {.servers = 1}));
}

Status drive(std::unique_ptr<Task> task, Transport& transport) {
  const auto limit = Clock::now() + std::chrono::seconds(20);
  while (Clock::now() < limit) {
    const auto result = task->advance(transport);
    if (!result.ok() || *result == Advance::finished) return result.status();
    transport.progress(std::chrono::milliseconds(5));
  }
  return Status::timed_out("the task does not end: " + task->waits_for());
}

class RawServer {
 public:
  explicit RawServer(Transport& transport)
      : transport_(transport), map_(small_map()), expected_{Direction::to_server, 1, 0,
                                                            map_.get(),           0, DType::f32} {}

  Header receive(Kind kind) {
    HeaderBytes bytes;
    expect_ok(transport_.wait(transport_.receive(0, Channel::to_server, bytes), deadline()));
    const auto header = decode(bytes, expected_).value();
    expect(header.kind == kind, "a {} came", name_of(header.kind));
    return header;
  }
  std::vector<float> receive_payload() {
    std::vector<float> values(kElems);
    const auto bytes = std::as_writable_bytes(std::span(values));
    expect_ok(transport_.wait(transport_.receive(0, Channel::to_server, bytes), deadline()));
    return values;
  }
  void send(std::span<const std::byte> bytes) {
    expect_ok(transport_.wait(transport_.send(0, Channel::to_worker, bytes), deadline()));
  }
  void send(const Header& header) { send(std::span<const std::byte>(encode(header))); }
  void reply(std::uint32_t piece, std::uint64_t step, std::uint64_t version,
             std::uint64_t staleness = 0) {
    const std::vector<float> values(kElems, static_cast<float>(10 * step + piece));
    send({.kind = Kind::reply,
          .piece = piece,
          .step = step,
          .version = version,
          .payload_bytes = kElems * sizeof(float),
          .value = staleness});
    send(std::as_bytes(std::span(values)));
  }
  void welcome(std::uint64_t hash = kHash) {
    expect(receive(Kind::hello).value == kHash, "the worker's hash");
    send({.kind = Kind::welcome, .value = hash});
  }

 private:
  static TimePoint deadline() { return Clock::now() + std::chrono::seconds(10); }

  Transport& transport_;
  std::shared_ptr<const ShardMap> map_;
  const Expectation expected_;
};

struct Bench {
  explicit Bench(Transport& t, Duration timeout = std::chrono::seconds(10))
      : transport(t),
        worker(std::make_shared<Worker>(
            WorkerOptions{kRoles, 0, small_map(), "sync-ps", kHash, timeout}, arena, trace,
            nullptr)) {}
  Status run(std::unique_ptr<Task> task) { return drive(std::move(task), transport); }

  Transport& transport;
  Arena arena = Arena::create({{"a", Elems(kElems)}, {"b", Elems(kElems)}}).value();
  Trace trace{0, false};
  std::shared_ptr<Worker> worker;
};

// Both ends, each in its thread; an end that returns is gone.
void run(const std::function<void(Bench&)>& worker, const std::function<void(RawServer&)>& server,
         Duration timeout = std::chrono::seconds(10)) {
  REQUIRE_NOTHROW(test::run_transports("shm", 2, [&](Transport& transport) {
    if (transport.rank() == 0) {
      Bench bench(transport, timeout);
      worker(bench);
      transport.close(std::chrono::milliseconds(100));
    } else {
      RawServer raw(transport);
      server(raw);
      transport.close(std::chrono::milliseconds(100));
    }
  }));
}

void expect_failure(const Status& status, ErrorCode code,
                    std::initializer_list<std::string_view> words) {
  expect(status.code() == code, "{}: {}, not {}", status.message(), name_of(status.code()),
         name_of(code));
  for (const auto word : words) {
    expect(status.message().find(word) != std::string::npos, "'{}' does not say '{}'",
           status.message(), word);
  }
}

TEST_CASE("an honest conversation, message by message") {
  run(
      [](Bench& bench) {
        for (std::size_t p = 0; p < kBuckets; ++p) {
          for (float& v : bench.arena.parameter_span<float>(p)) v = static_cast<float>(p);
        }
        expect_ok(bench.run(bench.worker->make_hello()));
        expect_ok(bench.run(bench.worker->make_initialise()));
        expect_ok(bench.run(bench.worker->make_pull(0, nullptr)));
        for (std::uint64_t step = 0; step < 2; ++step) {
          for (std::size_t b = 0; b < kBuckets; ++b) {
            for (float& g : bench.arena.gradient_span<float>(b)) g = static_cast<float>(step + b);
            expect_ok(bench.run(bench.worker->make_push(b, step)));
          }
          const auto arrivals = std::make_shared<Arrivals>(kBuckets);
          expect_ok(bench.run(bench.worker->make_pull(step + 1, arrivals)));
          expect(arrivals->staleness() == 5 + step, "the largest staleness of the pieces");
          expect(arrivals->wait_until(0, kBuckets, TimePoint()), "all pieces are here");
          for (std::size_t p = 0; p < kBuckets; ++p) {
            for (const float v : bench.arena.parameter_span<float>(p)) {
              expect(v == static_cast<float>(10 * (step + 1) + p), "the pulled parameter");
            }
          }
        }
        expect_ok(bench.run(bench.worker->make_bye()));
      },
      [](RawServer& server) {
        server.welcome();
        for (std::uint32_t p = 0; p < kBuckets; ++p) {
          expect(server.receive(Kind::init).piece == p, "init in order");
          for (const float v : server.receive_payload()) {
            expect(v == static_cast<float>(p), "first parameters");
          }
        }
        expect(server.receive(Kind::pull).step == 0, "pull 0");
        for (std::uint32_t p = 0; p < kBuckets; ++p) server.reply(p, 0, 100 + p);
        for (std::uint64_t step = 0; step < 2; ++step) {
          for (std::uint32_t p = 0; p < kBuckets; ++p) {
            const auto header = server.receive(Kind::push);
            expect(header.piece == p && header.step == step, "push in order");
            expect(header.version == 100 * (step + 1) + p, "the version that was pulled");
            for (const float g : server.receive_payload()) {
              expect(g == static_cast<float>(step + p), "the gradient");
            }
          }
          expect(server.receive(Kind::pull).step == step + 1, "one pull a step");
          // In the order that the server likes.
          server.reply(1, step + 1, 100 * (step + 2) + 1, 1);
          server.reply(0, step + 1, 100 * (step + 2), 5 + step);
        }
        server.receive(Kind::bye);
        server.send({.kind = Kind::farewell});
      });
}

TEST_CASE("a server with another layout is refused") {
  run(
      [](Bench& bench) {
        expect_failure(bench.run(bench.worker->make_hello()), ErrorCode::invalid_argument,
                       {"sync-ps: hello", "server 0 (rank 1)", "another layout"});
      },
      [](RawServer& server) { server.welcome(kHash + 1); });
}

TEST_CASE("a server that fails says whose fault it is, whatever the worker does then") {
  const Header failed{.kind = Kind::failed, .code = ErrorCode::peer_lost, .worker = 0};
  for (const bool while_pushing : {true, false}) {
    std::atomic<bool> told{false};
    run(
        [&](Bench& bench) {
          expect_ok(bench.run(bench.worker->make_hello()));
          while (while_pushing && !told) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          const auto outcome = bench.run(while_pushing ? bench.worker->make_push(1, 0)
                                                       : bench.worker->make_pull(0, nullptr));
          expect_failure(outcome, ErrorCode::peer_lost,
                         {while_pushing ? "push of bucket 1, step 0" : "pull of parameters 0",
                          "server 0 (rank 1) stopped because worker 0 (rank 0) was lost"});
        },
        [&](RawServer& server) {
          server.welcome();
          if (!while_pushing) server.receive(Kind::pull);
          server.send(failed);
          told = true;
        });
  }
}

TEST_CASE("replies that were not asked for are protocol errors") {
  const std::vector<std::pair<std::string, std::function<void(RawServer&)>>> offences = {
      {"the same piece twice",
       [](RawServer& s) {
         s.reply(1, 0, 0);
         s.reply(1, 0, 0);
       }},
      {"the wrong step", [](RawServer& s) { s.reply(0, 1, 0); }},
      {"a second welcome", [](RawServer& s) { s.send({.kind = Kind::welcome, .value = kHash}); }},
      {"garbage", [](RawServer& s) { s.send(HeaderBytes{}); }},
  };
  for (const auto& [name, offence] : offences) {
    INFO(name);
    run(
        [](Bench& bench) {
          expect_ok(bench.run(bench.worker->make_hello()));
          expect_failure(bench.run(bench.worker->make_pull(0, nullptr)), ErrorCode::protocol,
                         {"pull of parameters 0", "from server 0 (rank 1)"});
        },
        [&, &commit = offence](RawServer& server) {
          server.welcome();
          server.receive(Kind::pull);
          commit(server);
        });
  }
}

TEST_CASE("a message between two pulls that is no failure is a protocol error") {
  std::atomic<bool> sent{false};
  run(
      [&](Bench& bench) {
        expect_ok(bench.run(bench.worker->make_hello()));
        while (!sent) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        expect_failure(bench.run(bench.worker->make_push(0, 0)), ErrorCode::protocol,
                       {"sent a farewell that nobody asked for"});
      },
      [&](RawServer& server) {
        server.welcome();
        server.send({.kind = Kind::farewell});
        sent = true;
      });
}

TEST_CASE("a server that is gone is named, with what the worker was doing") {
  std::atomic<bool> greeted{false};
  run(
      [&](Bench& bench) {
        expect_ok(bench.run(bench.worker->make_hello()));
        greeted = true;
        const auto outcome = bench.run(bench.worker->make_pull(0, nullptr));
        expect_failure(outcome, ErrorCode::peer_lost,
                       {"sync-ps: pull of parameters 0", "server 0 (rank 1)", "rank 1"});
      },
      [&](RawServer& server) {
        server.welcome();
        while (!greeted) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      });
}

TEST_CASE("a server that does not answer is named after the timeout") {
  std::atomic<bool> done{false};
  run(
      [&](Bench& bench) {
        const auto outcome = bench.run(bench.worker->make_hello());
        done = true;
        expect_failure(outcome, ErrorCode::timed_out,
                       {"sync-ps: hello", "server 0 (rank 1) did not answer"});
      },
      [&](RawServer& server) {
        server.receive(Kind::hello);
        while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      },
      std::chrono::milliseconds(50));
}

}  // namespace
