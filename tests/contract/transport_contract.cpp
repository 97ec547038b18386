// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/transport_contract.h"

#include <fmt/format.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "libdist/bucket/arena.h"
#include "tests/contract/traffic.h"
#include "tests/support/ranks.h"

namespace dist::test {
namespace {

Rank right_of(const Transport& t) { return (t.rank() + 1) % t.ranks(); }
Rank left_of(const Transport& t) { return (t.rank() + t.ranks() - 1) % t.ranks(); }

void sizes_from_nothing_to_beyond_every_buffer(Transport& t) {
  for (const std::size_t size : {0, 1, 7, 63, 64, 65, 4095, 4097, 65536, 1048579, 5000003}) {
    const auto out = pattern(size, t.rank());
    std::vector<std::byte> in(size);
    expect_ok(t.exchange(right_of(t), out, left_of(t), in, Channel::collective, soon()));
    expect_pattern(in, left_of(t), fmt::format("message of {} bytes", size));
  }
}

void several_in_flight_taken_in_any_order(Transport& t) {
  constexpr int kMessages = 9;
  std::vector<std::vector<std::byte>> out, in;
  for (int i = 0; i < kMessages; ++i) {
    const std::size_t size = i % 3 == 0 ? 700001 : static_cast<std::size_t>(i) * 100;
    out.push_back(pattern(size, t.rank() * 100 + i));
    in.emplace_back(size);
  }
  std::vector<Operation> sends, receives;
  for (int i = 0; i < kMessages; ++i) {
    const auto at = static_cast<std::size_t>(i);
    sends.push_back(t.send(right_of(t), Channel::to_server, out[at]));
    receives.push_back(t.receive(left_of(t), Channel::to_server, in[at]));
  }
  for (int i = kMessages - 1; i >= 0; --i) {
    expect_ok(t.wait(receives[static_cast<std::size_t>(i)], soon()));
    expect_ok(t.wait(sends[static_cast<std::size_t>(kMessages - 1 - i)], soon()));
  }
  for (int i = 0; i < kMessages; ++i) {
    expect_pattern(in[static_cast<std::size_t>(i)], left_of(t) * 100 + i,
                   fmt::format("message {} in flight", i));
  }
}

void many_small_messages(Transport& t) {
  constexpr std::uint32_t kBatches = 60;
  constexpr std::uint32_t kInFlight = 50;
  for (std::uint32_t batch = 0; batch < kBatches; ++batch) {
    std::vector<std::uint32_t> out(kInFlight), in(kInFlight);
    std::vector<Operation> operations;
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      out[i] = batch * kInFlight + i;
      operations.push_back(t.receive(left_of(t), Channel::control, bytes_of(in[i])));
      operations.push_back(t.send(right_of(t), Channel::control, bytes_of(out[i])));
    }
    for (const Operation operation : operations) expect_ok(t.wait(operation, soon()));
    expect(in == out, "small messages of batch {} came in another order", batch);
  }
}

// Every rank to every other, on all channels at once; each stream must keep its order.
void order_on_each_channel_of_each_pair(Transport& t) {
  constexpr std::size_t kMessages = 6;
  Traffic traffic(t);
  for (std::size_t i = 0; i < kMessages; ++i) {
    for (int c = 0; c < kChannels; ++c) {
      for (Rank other = 0; other < t.ranks(); ++other) {
        if (other == t.rank()) continue;
        const auto stream = [&](Rank from, Rank to) {
          return ((from * 16 + to) * 4 + c) * 8 + static_cast<int>(i);
        };
        const std::size_t size = 10000 * i + 1;
        traffic.send(other, static_cast<Channel>(c), size, stream(t.rank(), other));
        traffic.receive(other, static_cast<Channel>(c), size, stream(other, t.rank()));
      }
    }
  }
  traffic.finish();
}

// A channel whose receiver does not look must not hold up the others of the same pair.
void channels_do_not_block_each_other(Transport& t) {
  constexpr std::size_t kFullBytes = 9 << 20;
  if (t.rank() > 1) return;
  const Rank other = 1 - t.rank();
  const auto unread = pattern(kFullBytes, t.rank());
  const Operation blocked = t.send(other, Channel::to_server, unread);
  for (int round = 0; round < 3; ++round) {
    const auto out = pattern(500000, t.rank() + round);
    std::vector<std::byte> in(out.size());
    expect_ok(t.exchange(other, out, other, in, Channel::to_worker, soon()));
    expect_pattern(in, other + round, "message beside a full channel");
  }
  std::vector<std::byte> in(kFullBytes);
  expect_ok(t.wait(t.receive(other, Channel::to_server, in), soon()));
  expect_ok(t.wait(blocked, soon()));
  expect_pattern(in, other, "message of the channel that was full");
}

void both_directions_at_once(Transport& t) {
  constexpr std::size_t kBytes = 3000001;
  Traffic traffic(t);
  for (const Rank other : {left_of(t), right_of(t)}) {
    traffic.send(other, Channel::collective, kBytes, t.rank());
    traffic.receive(other, Channel::collective, kBytes, other);
  }
  traffic.finish();
}

void everyone_sends_before_anyone_receives(Transport& t) {
  constexpr std::size_t kBytes = 200003;
  Traffic traffic(t);
  for (Rank other = 0; other < t.ranks(); ++other) {
    if (other != t.rank()) traffic.send(other, Channel::to_worker, kBytes, t.rank());
  }
  for (int i = 0; i < 10; ++i) t.progress(std::chrono::milliseconds(1));
  for (Rank other = 0; other < t.ranks(); ++other) {
    if (other != t.rank()) traffic.receive(other, Channel::to_worker, kBytes, other);
  }
  traffic.finish();
}

void a_wait_ends_at_its_deadline(Transport& t) {
  if (t.rank() > 1) return;
  std::uint32_t value = 7, signal = 0;
  if (t.rank() == 0) {
    const Operation late = t.receive(1, Channel::collective, bytes_of(value));
    const auto status = t.wait(late, Clock::now() + std::chrono::milliseconds(120));
    expect(status.code() == ErrorCode::timed_out, "expected a time-out: {}", status.message());
    expect(status.message().find("timed out after ") != std::string::npos, "{}", status.message());
    expect_ok(t.wait(t.send(1, Channel::control, bytes_of(signal)), soon()));
    expect_ok(t.wait(late, soon()));
    expect(value == 9, "the late message was lost");
  } else {
    expect_ok(t.wait(t.receive(0, Channel::control, bytes_of(signal)), soon()));
    value = 9;
    expect_ok(t.wait(t.send(0, Channel::collective, bytes_of(value)), soon()));
  }
}

// Would hang if a wake-up between the look at `done` and the sleep were lost.
void wake_ends_a_sleeping_progress(Transport& t) {
  std::uint32_t never = 0;
  std::optional<Operation> pending;
  if (t.ranks() > 1) pending = t.receive(left_of(t), Channel::control, bytes_of(never));
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> done = false;
    std::thread waker([&] {
      if (i % 4 != 0) std::this_thread::sleep_for(std::chrono::microseconds(i));
      done.store(true);
      t.wake();
    });
    while (!done.load()) t.progress(std::chrono::hours(1));
    waker.join();
  }
  if (!pending) return;
  std::uint32_t out = 5;
  expect_ok(t.wait(t.send(right_of(t), Channel::control, bytes_of(out)), soon()));
  expect_ok(t.wait(*pending, soon()));
}

void counters_are_exact(Transport& t) {
  const auto before = t.counters();
  constexpr std::size_t kBytes = 123457;
  Traffic traffic(t);
  for (Rank other = 0; other < t.ranks(); ++other) {
    if (other == t.rank()) continue;
    for (const std::size_t bytes : {kBytes, std::size_t{0}, std::size_t{1}}) {
      traffic.send(other, Channel::collective, bytes, 1);
      traffic.receive(other, Channel::collective, bytes, 1);
    }
  }
  traffic.finish();
  const auto after = t.counters();
  const auto others = static_cast<std::uint64_t>(t.ranks() - 1);
  expect((after.sent - before.sent).value == others * (kBytes + 1), "bytes sent");
  expect((after.received - before.received).value == others * (kBytes + 1), "bytes received");
  expect(after.messages_sent - before.messages_sent == others * 3, "messages sent");
  expect(after.messages_received - before.messages_received == others * 3, "messages received");
}

void the_rank_knows_its_place(Transport& t) {
  expect(t.rank() >= 0 && t.rank() < t.ranks(), "rank outside the world");
  expect(!t.name().empty(), "a transport has a name");
}

// Closing cases from here on.

void expect_lost(const Status& status, Rank lost) {
  expect(status.code() == ErrorCode::peer_lost, "expected the loss of rank {}: {}", lost,
         status.message());
  expect(status.message().find(fmt::format("rank {}", lost)) != std::string::npos,
         "the message does not name the lost rank: {}", status.message());
}

void another_size_is_a_protocol_error(Transport& t, std::size_t sent, std::size_t expected) {
  if (t.rank() == 0) {
    const auto out = pattern(sent, 0);
    expect_ok(t.wait(t.send(1, Channel::collective, out), soon()));
    std::uint32_t judged = 0;
    expect_ok(t.wait(t.receive(1, Channel::control, bytes_of(judged)), soon()));
  } else if (t.rank() == 1) {
    std::vector<std::byte> in(expected);
    const auto status = t.wait(t.receive(0, Channel::collective, in), soon());
    expect(status.code() == ErrorCode::protocol, "expected a protocol error: {}", status.message());
    expect(status.message().find("rank 0") != std::string::npos, "{}", status.message());
    expect(status.message().find(fmt::format("{}", expected)) != std::string::npos, "{}",
           status.message());
    std::uint32_t judged = 1;
    expect_ok(t.wait(t.send(0, Channel::control, bytes_of(judged)), soon()));
  }
}

void a_longer_message_is_a_protocol_error(Transport& t) {
  another_size_is_a_protocol_error(t, 101, 100);
}
void a_shorter_message_is_a_protocol_error(Transport& t) {
  another_size_is_a_protocol_error(t, 99, 100);
}

// The last rank closes while all others wait for it; what they do with each other goes on.
void a_closed_peer_is_lost(Transport& t) {
  const Rank lost = t.ranks() - 1;
  meet(t);
  if (t.rank() == lost) {
    t.close(std::chrono::milliseconds(100));
    return;
  }
  const std::vector<std::byte> too_large_to_buffer(30 << 20);
  std::vector<std::byte> first(100), second(100);
  const Operation sending = t.send(lost, Channel::to_server, too_large_to_buffer);
  const Operation receiving = t.receive(lost, Channel::to_worker, first);
  const Operation receiving_next = t.receive(lost, Channel::to_worker, second);
  expect_lost(t.wait(receiving, soon()), lost);
  expect_lost(t.wait(receiving_next, soon()), lost);
  expect_lost(t.wait(sending, soon()), lost);
  expect_lost(t.wait(t.receive(lost, Channel::control, first), soon()), lost);

  Traffic traffic(t);
  for (Rank other = 0; other < lost; ++other) {
    if (other == t.rank()) continue;
    traffic.send(other, Channel::collective, 1000000, t.rank());
    traffic.receive(other, Channel::collective, 1000000, other);
  }
  traffic.finish();
}

void what_was_sent_before_close_still_arrives(Transport& t) {
  constexpr std::size_t kBytes = 2000;
  if (t.rank() == 0) {
    const auto out = pattern(kBytes, 3);
    expect_ok(t.wait(t.send(1, Channel::to_server, out), soon()));
    t.close(std::chrono::seconds(2));
  } else if (t.rank() == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    std::vector<std::byte> in(kBytes);
    expect_ok(t.wait(t.receive(0, Channel::to_server, in), soon()));
    expect_pattern(in, 3, "message sent before close");
    expect_lost(t.wait(t.receive(0, Channel::to_server, in), soon()), 0);
  }
}

void close_ends_the_own_operations(Transport& t) {
  std::vector<std::byte> in(10);
  const std::vector<std::byte> out(30 << 20);
  const Operation receiving = t.receive(right_of(t), Channel::collective, in);
  const Operation sending = t.send(right_of(t), Channel::collective, out);
  t.close(Duration::zero());
  for (const Operation operation : {receiving, sending}) {
    expect(t.finished(operation), "an operation outlived close()");
    expect(!t.take(operation).ok(), "an operation succeeded by close()");
  }
  expect(!t.wait(t.send(right_of(t), Channel::control, in), soon()).ok(), "send after close()");
  expect(!t.wait(t.receive(right_of(t), Channel::control, in), soon()).ok(),
         "receive after close()");
  t.close(Duration::zero());
}

}  // namespace

const std::vector<TransportCase>& lasting_transport_cases() {
  static const std::vector<TransportCase> cases = {
      {"the rank knows its place", 1, the_rank_knows_its_place},
      {"sizes from nothing to beyond every buffer", 2, sizes_from_nothing_to_beyond_every_buffer},
      {"several in flight, taken in any order", 2, several_in_flight_taken_in_any_order},
      {"many small messages", 2, many_small_messages},
      {"order on each channel of each pair", 2, order_on_each_channel_of_each_pair},
      {"channels do not block each other", 2, channels_do_not_block_each_other},
      {"both directions at once", 3, both_directions_at_once},
      {"everyone sends before anyone receives", 2, everyone_sends_before_anyone_receives},
      {"a wait ends at its deadline", 2, a_wait_ends_at_its_deadline},
      {"wake ends a sleeping progress", 1, wake_ends_a_sleeping_progress},
      {"counters are exact", 1, counters_are_exact},
  };
  return cases;
}

const std::vector<TransportCase>& closing_transport_cases() {
  static const std::vector<TransportCase> cases = {
      {"a longer message is a protocol error", 2, a_longer_message_is_a_protocol_error},
      {"a shorter message is a protocol error", 2, a_shorter_message_is_a_protocol_error},
      {"a closed peer is lost", 2, a_closed_peer_is_lost},
      {"what was sent before close still arrives", 2, what_was_sent_before_close_still_arrives},
      {"close ends the own operations", 2, close_ends_the_own_operations},
  };
  return cases;
}

void meet(Transport& t) {
  for (int distance = 1; distance < t.ranks(); distance *= 2) {
    std::uint32_t out = 1, in = 0;
    expect_ok(t.exchange((t.rank() + distance) % t.ranks(), bytes_of(out),
                         (t.rank() + t.ranks() - distance) % t.ranks(), bytes_of(in),
                         Channel::control, soon()));
  }
}

// The arena's window lets few megabytes stand for the whole message; the pattern repeats with it.
void exchange_huge_messages(Transport& t) {
  if (t.rank() > 1) return;
  constexpr Bytes kWindow = 16_MiB;
  constexpr std::uint64_t kBytes = (2ull << 30) + 4096 + 12;
  auto arena = Arena::create({{"message", Elems(kBytes / 4), DType::f32}}, {kWindow});
  expect_ok(arena.status());
  const auto whole = Range{0, kBytes / 4};
  const auto out = arena->gradients(whole);
  const auto in = arena->parameters(whole);
  const auto repeated = pattern(kWindow.value, t.rank());
  std::memcpy(out.data(), repeated.data(), repeated.size());
  const Rank other = 1 - t.rank();
  const auto deadline = Clock::now() + std::chrono::minutes(5);
  expect_ok(t.exchange(other, out, other, in, Channel::collective, deadline));
  expect_pattern(in.first(kWindow.value), other, "message of more than 2 GiB");
  expect(t.counters().received.value == kBytes, "bytes received");
}

}  // namespace dist::test
