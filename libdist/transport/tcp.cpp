// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/tcp.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "libdist/transport/rendezvous.h"
#include "libdist/transport/tcp_connection.h"
#include "libdist/transport/tcp_listener.h"
#include "libdist/transport/tcp_mesh.h"

namespace dist {
namespace {

constexpr int kHandlersATurn = 64;
constexpr Duration kLongestSpin = std::chrono::microseconds(50);
constexpr Duration kFirstSpin = std::chrono::microseconds(5);
constexpr Duration kDestructorGrace = std::chrono::milliseconds(100);
constexpr Duration kDrainStep = std::chrono::microseconds(200);

class TcpTransport final : public Transport {
 public:
  TcpTransport(const Options& options, std::unique_ptr<tcp::asio::io_context> context,
               tcp::Links links)
      : rank_(options.rank),
        ranks_(options.ranks),
        context_(std::move(context)),
        work_(context_->get_executor()),
        connections_(static_cast<std::size_t>(options.ranks)) {
    context_->restart();
    for (Rank peer = 0; peer < ranks_; ++peer) {
      for (std::size_t channel = 0; channel < kChannels; ++channel) {
        auto& socket = links[static_cast<std::size_t>(peer)][channel];
        if (!socket) continue;
        tcp::tune(*socket, options.timeout);
        connections_[static_cast<std::size_t>(peer)][channel] = std::make_unique<tcp::Connection>(
            *std::move(socket),
            tcp::Identity{options.job, 0, rank_, peer, static_cast<Channel>(channel)}, operations_,
            counters_, [this, peer](const Status& why) { distrust(peer, why); });
      }
    }
  }

  ~TcpTransport() override { close(kDestructorGrace); }

  std::string_view name() const override { return "tcp"; }
  Rank rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  TransferCounters counters() const override { return counters_; }

  Operation send(Rank to, Channel channel, std::span<const std::byte> bytes) override {
    return connection(to, channel).send(bytes);
  }
  Operation receive(Rank from, Channel channel, std::span<std::byte> bytes) override {
    return connection(from, channel).receive(bytes);
  }

  void progress(Duration idle) override {
    const auto start = Clock::now();
    if (run_ready() || idle <= Duration::zero()) return;
    while (Clock::now() - start < std::min(spin_, idle)) {
      if (!run_ready()) continue;
      spin_ = std::min(2 * spin_, kLongestSpin);
      return;
    }
    const bool moved = context_->run_one_for(idle) > 0;
    if (moved) run_ready();
    // Spinning pays only where what was waited for comes at once.
    spin_ =
        moved && Clock::now() - start < 2 * kLongestSpin ? std::max(spin_, kFirstSpin) : spin_ / 2;
  }

  // One post is enough until it has been run.
  void wake() override {
    if (wake_posted_.exchange(true)) return;
    tcp::asio::post(*context_, [this] { wake_posted_.store(false); });
  }

  bool finished(Operation operation) const override { return operations_.finished(operation); }
  Status take(Operation operation) override { return operations_.take(operation); }

  void close(Duration grace) override {
    if (std::exchange(closed_, true)) return;
    const auto deadline = Clock::now() + grace;
    const auto why = Status::cancelled(fmt::format("tcp: rank {} closed the transport", rank_));
    for_each([&](tcp::Connection& c) { c.stop_receiving(why); });
    while (any([](tcp::Connection& c) { return c.sending(); }) && Clock::now() < deadline) {
      progress(std::min<Duration>(deadline - Clock::now(), std::chrono::milliseconds(1)));
    }
    while (any([](tcp::Connection& c) { return !c.drained(); }) && Clock::now() < deadline) {
      std::this_thread::sleep_for(kDrainStep);
    }
    for_each([&](tcp::Connection& c) { c.fail(why); });
  }

 private:
  tcp::Connection& connection(Rank peer, Channel channel) {
    DIST_ASSERT(peer >= 0 && peer < ranks_ && peer != rank_, "no such peer");
    return *connections_[static_cast<std::size_t>(peer)][static_cast<std::size_t>(channel)];
  }

  template <typename Function>
  void for_each(Function function) {
    for (auto& channels : connections_) {
      for (auto& connection : channels) {
        if (connection) function(*connection);
      }
    }
  }

  template <typename Predicate>
  bool any(Predicate predicate) {
    bool found = false;
    for_each([&](tcp::Connection& c) { found = found || predicate(c); });
    return found;
  }

  // A peer that breaks the protocol on one channel is not listened to on the others.
  void distrust(Rank peer, const Status& why) {
    for (auto& connection : connections_[static_cast<std::size_t>(peer)]) connection->fail(why);
  }

  // Runs what is ready, but returns as soon as an operation has ended: somebody waits for it.
  bool run_ready() {
    const auto in_flight = operations_.in_flight();
    int handlers = 0;
    while (handlers < kHandlersATurn && operations_.in_flight() >= in_flight &&
           context_->poll_one() > 0) {
      ++handlers;
    }
    return handlers > 0;
  }

  Rank rank_;
  int ranks_;
  std::unique_ptr<tcp::asio::io_context> context_;
  tcp::asio::executor_work_guard<tcp::asio::io_context::executor_type> work_;
  OperationTable operations_;
  TransferCounters counters_;
  std::vector<std::array<std::unique_ptr<tcp::Connection>, kChannels>> connections_;
  Duration spin_ = kFirstSpin;
  std::atomic<bool> wake_posted_ = false;
  bool closed_ = false;
};

Result<std::unique_ptr<Transport>> open(const Options& options) {
  const auto deadline = Clock::now() + options.connect_timeout;
  const auto address = listening_address(options);
  DIST_TRY(address);
  auto context = std::make_unique<tcp::asio::io_context>(1);
  tcp::Links links(static_cast<std::size_t>(options.ranks));
  if (options.ranks > 1) {
    auto listener = tcp::Listener::open(*context, *address);
    DIST_TRY(listener);
    const auto rendezvous = open_rendezvous(options, (*listener)->endpoint(), deadline);
    DIST_TRY(rendezvous);
    auto connected = tcp::connect_all(*context, options, **listener, **rendezvous, deadline);
    DIST_TRY(connected);
    links = *std::move(connected);
  }
  return std::unique_ptr<Transport>(
      std::make_unique<TcpTransport>(options, std::move(context), std::move(links)));
}

}  // namespace

Result<std::unique_ptr<Transport>> open_tcp(const Options& options) {
  // Asio's objects are made with calls that throw when descriptors run out.
  try {
    auto opened = open(options);
    DIST_TRY_BECAUSE(opened, "tcp");
    return opened;
  } catch (const std::exception& error) {
    return Status::resource(fmt::format("tcp -> {}", error.what()));
  }
}

}  // namespace dist
