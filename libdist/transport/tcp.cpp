// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/tcp.h"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "libdist/transport/rendezvous.h"
#include "libdist/transport/tcp_connection.h"
#include "libdist/transport/tcp_door.h"
#include "libdist/transport/tcp_listener.h"
#include "libdist/transport/tcp_mesh.h"

namespace dist {
namespace {

// About what sleeping and being woken up costs on a virtual machine.
constexpr Duration kLongestSpin = std::chrono::microseconds(50);
// Callers may say "for ever"; a timespec cannot.
constexpr Duration kLongestIdle = std::chrono::hours(1);
constexpr Duration kDestructorGrace = std::chrono::milliseconds(100);
constexpr Duration kDrainStep = std::chrono::microseconds(200);

timespec as_timespec(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {static_cast<time_t>(seconds.count()), static_cast<long>((duration - seconds).count())};
}

int ranks_here(const Options& options) {
  return options.one_host ? options.ranks : options.local_ranks;
}

bool wants_checksums(const std::string& choice, int socket) {
  return choice == "on" || (choice == "remote" && !tcp::stays_on_this_host(socket));
}

class TcpTransport final : public Transport {
 public:
  TcpTransport(const Options& options, FileDescriptor wake_event, tcp::Links links,
               std::uint64_t refused)
      : options_(options),
        rank_(options.rank),
        ranks_(options.ranks),
        wake_event_(std::move(wake_event)),
        peers_(static_cast<std::size_t>(options.ranks)),
        crowded_(ranks_here(options) > static_cast<int>(std::thread::hardware_concurrency())) {
    counters_.connections_refused = refused;
    for (Rank peer = 0; peer < ranks_; ++peer) {
      auto& sockets = links[static_cast<std::size_t>(peer)];
      if (!sockets.front()) continue;
      tcp::Arrival arrival;
      arrival.rank = peer;
      arrival.incarnation = options.may_leave(rank_) ? options.incarnation : 0;
      for (std::size_t channel = 0; channel < kChannels; ++channel) {
        arrival.sockets[channel] = tcp::detach(*std::move(sockets[channel]), options.timeout);
      }
      connect(std::move(arrival));
    }
  }

  /// Keeps the door open for those who come later.
  void open_door(std::unique_ptr<tcp::asio::io_context> context,
                 std::unique_ptr<tcp::Listener> listener, std::unique_ptr<Rendezvous> rendezvous) {
    door_ = std::make_unique<tcp::Door>(std::move(context), std::move(listener),
                                        std::move(rendezvous), options_, [this] { wake(); });
  }

  ~TcpTransport() override { close(kDestructorGrace); }

  std::string_view name() const override { return "tcp"; }
  Rank rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  Capabilities capabilities() const override { return {.losable_peers = true}; }
  TransferCounters counters() const override {
    auto counters = counters_;
    if (door_) counters.connections_refused += door_->refusals();
    return counters;
  }

  std::optional<std::uint32_t> incarnation(Rank peer) const override {
    const Peer& known = peers_[static_cast<std::size_t>(peer)];
    if (!known.connections.front()) return std::nullopt;
    return options_.may_leave(peer) ? known.incarnation : 0;
  }

  void disconnect(Rank peer, const Status& why) override { distrust(peer, why); }

  Operation send(Rank to, Channel channel, std::span<const std::byte> bytes) override {
    if (!met(to)) return refuse(to);
    tcp::Connection& chosen = connection(to, channel);
    const bool was_busy = chosen.busy();
    const auto operation = chosen.send(bytes);
    if (!was_busy && chosen.busy()) busy_.push_back(&chosen);
    return operation;
  }
  Operation receive(Rank from, Channel channel, std::span<std::byte> bytes) override {
    if (!met(from)) return refuse(from);
    tcp::Connection& chosen = connection(from, channel);
    const bool was_busy = chosen.busy();
    const auto operation = chosen.receive(bytes);
    if (!was_busy && chosen.busy()) busy_.push_back(&chosen);
    return operation;
  }

  void progress(Duration idle) override {
    if (door_) admit_arrivals();
    if (pump() || idle <= Duration::zero()) return;
    const auto start = Clock::now();
    watch();
    const auto spin_end = start + std::min(spin_, idle);
    for (auto now = start; now < spin_end; now = Clock::now()) {
      if (woken_.exchange(false) || (is_ready() && pump())) return;
      // Whom this rank waits for may need this core.
      if (crowded_) ::sched_yield();
    }
    sleep(std::min(idle, kLongestIdle));
    const bool moved = pump();
    // Spinning pays only where what is waited for comes at once.
    spin_ = moved && Clock::now() - start < kLongestSpin ? kLongestSpin : spin_ / 2;
  }

  // Who is not asleep looks at woken_ before it goes to sleep.
  void wake() override {
    if (woken_.exchange(true) || !asleep_.load()) return;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_event_.number(), &one, sizeof one);
  }

  bool finished(Operation operation) const override { return operations_.finished(operation); }
  Status take(Operation operation) override { return operations_.take(operation); }

  void close(Duration grace) override {
    if (std::exchange(closed_, true)) return;
    if (door_) counters_.connections_refused += door_->refusals();
    door_.reset();
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
  struct Peer {
    std::uint32_t incarnation = 0;
    std::array<std::unique_ptr<tcp::Connection>, kChannels> connections;
  };

  tcp::Connection& connection(Rank peer, Channel channel) {
    return *peers_[static_cast<std::size_t>(peer)].connections[static_cast<std::size_t>(channel)];
  }

  bool met(Rank peer) const {
    DIST_ASSERT(peer >= 0 && peer < ranks_ && peer != rank_, "no such peer");
    return peers_[static_cast<std::size_t>(peer)].connections.front() != nullptr;
  }

  // In an elastic world workers know servers only, and a server knows those who have come.
  Operation refuse(Rank peer) {
    const Operation operation = operations_.add();
    operations_.finish(operation, Status::peer_lost(fmt::format(
                                      "tcp: rank {} is not connected to rank {}", rank_, peer)));
    return operation;
  }

  void connect(tcp::Arrival arrival) {
    Peer& peer = peers_[static_cast<std::size_t>(arrival.rank)];
    peer.incarnation = arrival.incarnation;
    for (std::size_t channel = 0; channel < kChannels; ++channel) {
      FileDescriptor& socket = arrival.sockets[channel];
      const tcp::Identity identity{options_.job,
                                   arrival.incarnation,
                                   rank_,
                                   arrival.rank,
                                   static_cast<Channel>(channel),
                                   wants_checksums(options_.tcp_checksum, socket.number())};
      peer.connections[channel] = std::make_unique<tcp::Connection>(
          std::move(socket), identity, operations_, counters_,
          [this, rank = arrival.rank](const Status& why) { distrust(rank, why); });
    }
  }

  // The old life ends before the new one speaks.
  void admit_arrivals() {
    for (tcp::Arrival& arrival : door_->take()) {
      for (auto& old : peers_[static_cast<std::size_t>(arrival.rank)].connections) {
        if (!old) continue;
        old->fail(Status::peer_lost(fmt::format("tcp: rank {} is gone: its incarnation {} has come",
                                                arrival.rank, arrival.incarnation)));
        std::erase(busy_, old.get());
      }
      connect(std::move(arrival));
    }
  }

  template <typename Function>
  void for_each(Function function) {
    for (Peer& peer : peers_) {
      for (auto& connection : peer.connections) {
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
    for (auto& connection : peers_[static_cast<std::size_t>(peer)].connections) {
      if (connection) connection->fail(why);
    }
  }

  // One turn for every connection that has something to do.
  bool pump() {
    bool moved = false;
    for (std::size_t i = 0; i < busy_.size(); ++i) moved |= busy_[i]->pump();
    if (moved) std::erase_if(busy_, [](const tcp::Connection* c) { return !c->busy(); });
    return moved;
  }

  void watch() {
    watched_.clear();
    watched_.push_back({wake_event_.number(), POLLIN, 0});
    for (const auto* c : busy_) watched_.push_back({c->number(), c->events(), 0});
  }

  // Asked before reading: a look that finds nothing takes no lock that the kernel needs to deliver.
  bool is_ready() { return ::poll(watched_.data() + 1, watched_.size() - 1, 0) > 0; }

  // Until a connection is ready or wake() is called; after watch().
  void sleep(Duration longest) {
    asleep_.store(true);
    if (!woken_.load()) {
      const auto timeout = as_timespec(longest);
      ::ppoll(watched_.data(), watched_.size(), &timeout, nullptr);
    }
    asleep_.store(false);
    woken_.store(false);
    if (watched_.front().revents == 0) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(wake_event_.number(), &count, sizeof count);
  }

  const Options options_;
  Rank rank_;
  int ranks_;
  FileDescriptor wake_event_;
  OperationTable operations_;
  TransferCounters counters_;
  std::vector<Peer> peers_;
  std::vector<tcp::Connection*> busy_;  // those with operations in flight, and a few more
  std::vector<pollfd> watched_;
  bool crowded_;
  Duration spin_ = kLongestSpin;
  std::atomic<bool> woken_ = false;
  std::atomic<bool> asleep_ = false;
  bool closed_ = false;
  std::unique_ptr<tcp::Door> door_;  // last: its thread wakes this
};

Result<std::unique_ptr<Transport>> open(const Options& options) {
  const auto deadline = Clock::now() + options.connect_timeout;
  const auto address = listening_address(options);
  DIST_TRY(address);
  // For the start and for the door: the sockets of the job are polled.
  auto context = std::make_unique<tcp::asio::io_context>(1);
  std::unique_ptr<tcp::Listener> listener;
  std::unique_ptr<Rendezvous> rendezvous;
  const bool keeps_door = options.elastic && !options.may_leave(options.rank);
  std::uint64_t refused = 0;  // by a listener that is closed
  tcp::Links links(static_cast<std::size_t>(options.ranks));
  if (options.ranks > 1) {
    auto listening = tcp::Listener::open(*context, *address);
    DIST_TRY(listening);
    listener = *std::move(listening);
    auto met = open_rendezvous(options, listener->endpoint(), deadline);
    DIST_TRY(met);
    rendezvous = *std::move(met);
    auto connected = tcp::connect_all(*context, options, *listener, *rendezvous, deadline);
    DIST_TRY(connected);
    links = *std::move(connected);
    if (!keeps_door) refused = listener->refusals().total();
  }
  FileDescriptor wake_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_event.valid()) {
    return Status::resource(fmt::format("cannot make an event: {}", std::strerror(errno)));
  }
  auto transport =
      std::make_unique<TcpTransport>(options, std::move(wake_event), std::move(links), refused);
  if (keeps_door) {
    transport->open_door(std::move(context), std::move(listener), std::move(rendezvous));
  }
  return std::unique_ptr<Transport>(std::move(transport));
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
