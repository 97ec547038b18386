// SPDX-License-Identifier: Apache-2.0
// A hostile network for one thread: ranks are endpoints of one object, every operation ends as late
// and in as odd an order as the transport's contract allows, and memory that belongs to an
// operation in flight is watched.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "libdist/check.h"
#include "libdist/transport/transport.h"

namespace dist::test {

class MemoryNetwork {
 public:
  MemoryNetwork(int ranks, unsigned seed);

  Transport& endpoint(Rank rank);

  /// Lets one randomly chosen event happen: a message is copied, or a send is reported as ended.
  /// False when nothing can happen.
  bool step();

  /// Breaches of the contract by the users: memory changed while an operation owned it.
  const std::vector<std::string>& breaches() const { return breaches_; }

  /// Makes every operation between two ranks fail from now on.
  void cut(Rank from, Rank to) { cut_ = {from, to}; }

 private:
  class Endpoint;

  struct Flight {
    std::uint64_t id;
    std::span<const std::byte> out;  // of a send
    std::span<std::byte> in;         // of a receive
    std::vector<std::byte> held;     // what the memory must still hold when the operation ends
    bool copied = false;
  };

  using Stream = std::tuple<Rank, Rank, Channel>;

  struct Pair {
    std::deque<Flight> sends;
    std::deque<Flight> receives;
  };

  bool deliver(const Stream& stream, Pair& pair);
  bool end_send(const Stream& stream, Pair& pair);
  void finish(Rank rank, std::uint64_t id, Status status);
  bool is_cut(const Stream& stream) const {
    return cut_ == std::pair(std::get<0>(stream), std::get<1>(stream));
  }

  std::mt19937 random_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::map<Stream, Pair> pairs_;
  std::vector<std::string> breaches_;
  std::pair<Rank, Rank> cut_{-1, -1};
  std::uint64_t next_id_ = 1;
};

class MemoryNetwork::Endpoint final : public Transport {
 public:
  Endpoint(MemoryNetwork& network, Rank rank, int ranks)
      : network_(network), rank_(rank), ranks_(ranks) {}

  std::string_view name() const override { return "memory"; }
  Rank rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  TransferCounters counters() const override { return counters_; }

  Operation send(Rank to, Channel channel, std::span<const std::byte> bytes) override {
    const auto id = network_.next_id_++;
    network_.pairs_[{rank_, to, channel}].sends.push_back(
        {id, bytes, {}, {bytes.begin(), bytes.end()}});
    counters_.sent += Bytes(bytes.size());
    ++counters_.messages_sent;
    return {id};
  }

  Operation receive(Rank from, Channel channel, std::span<std::byte> bytes) override {
    const auto id = network_.next_id_++;
    // Whoever reads the memory too early gets this.
    std::fill(bytes.begin(), bytes.end(), std::byte{0xa5});
    network_.pairs_[{from, rank_, channel}].receives.push_back(
        {id, {}, bytes, {bytes.begin(), bytes.end()}});
    return {id};
  }

  void progress(Duration) override { network_.step(); }
  void wake() override {}
  bool finished(Operation operation) const override { return ended_.contains(operation.id); }

  Status take(Operation operation) override {
    const auto at = ended_.find(operation.id);
    DIST_ASSERT(at != ended_.end(), "take() before finished()");
    const Status outcome = at->second;
    ended_.erase(at);
    return outcome;
  }

  void close(Duration) override {}

 private:
  friend class MemoryNetwork;

  MemoryNetwork& network_;
  Rank rank_;
  int ranks_;
  TransferCounters counters_;
  std::map<std::uint64_t, Status> ended_;
};

inline MemoryNetwork::MemoryNetwork(int ranks, unsigned seed) : random_(seed) {
  for (Rank r = 0; r < ranks; ++r) {
    endpoints_.push_back(std::make_unique<Endpoint>(*this, r, ranks));
  }
}

inline Transport& MemoryNetwork::endpoint(Rank rank) {
  return *endpoints_[static_cast<std::size_t>(rank)];
}

inline bool MemoryNetwork::step() {
  std::vector<Stream> order;
  for (const auto& [stream, pair] : pairs_) order.push_back(stream);
  std::shuffle(order.begin(), order.end(), random_);
  for (const Stream& stream : order) {
    Pair& pair = pairs_[stream];
    const bool sender_first = random_() % 2 == 0;
    if (sender_first && end_send(stream, pair)) return true;
    if (deliver(stream, pair) || end_send(stream, pair)) return true;
  }
  return false;
}

// The oldest receive takes the oldest send that was not copied.
inline bool MemoryNetwork::deliver(const Stream& stream, Pair& pair) {
  if (pair.receives.empty()) return false;
  Flight receive = pair.receives.front();
  const Rank to = std::get<1>(stream);
  const auto send = std::find_if(pair.sends.begin(), pair.sends.end(),
                                 [](const Flight& flight) { return !flight.copied; });
  if (send == pair.sends.end() && !is_cut(stream)) return false;
  pair.receives.pop_front();
  if (is_cut(stream)) {
    finish(to, receive.id, Status::peer_lost("memory: the link is cut"));
    return true;
  }
  if (!std::equal(receive.in.begin(), receive.in.end(), receive.held.begin())) {
    breaches_.push_back("rank " + std::to_string(to) + " wrote over a receive in flight");
  }
  if (send->out.size() != receive.in.size()) {
    finish(to, receive.id, Status::protocol("memory: the message has another size"));
    return true;
  }
  std::copy(send->out.begin(), send->out.end(), receive.in.begin());
  send->copied = true;
  finish(to, receive.id, {});
  return true;
}

inline bool MemoryNetwork::end_send(const Stream& stream, Pair& pair) {
  if (pair.sends.empty() || !pair.sends.front().copied) return false;
  const Flight send = pair.sends.front();
  pair.sends.pop_front();
  if (!std::equal(send.out.begin(), send.out.end(), send.held.begin())) {
    breaches_.push_back("rank " + std::to_string(std::get<0>(stream)) +
                        " wrote over a send in flight");
  }
  finish(std::get<0>(stream), send.id, {});
  return true;
}

inline void MemoryNetwork::finish(Rank rank, std::uint64_t id, Status status) {
  endpoints_[static_cast<std::size_t>(rank)]->ended_.emplace(id, std::move(status));
}

}  // namespace dist::test
