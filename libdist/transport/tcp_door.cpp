// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/tcp_door.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <utility>

namespace dist::tcp {

wire::Hello hello_at_door(const Options& options) {
  return {.purpose = wire::Purpose::channel,
          .channel = 0,
          .job = options.job,
          .epoch = options.elastic ? wire::kAnyEpoch : 0,
          .rank = static_cast<std::uint32_t>(options.rank),
          .ranks = static_cast<std::uint32_t>(options.ranks),
          .to_rank = static_cast<std::uint32_t>(options.rank)};
}

Door::Door(std::unique_ptr<asio::io_context> context, std::unique_ptr<Listener> listener,
           std::unique_ptr<Rendezvous> rendezvous, const Options& options,
           std::function<void()> on_arrival)
    : options_(options),
      on_arrival_(std::move(on_arrival)),
      context_(std::move(context)),
      rendezvous_(std::move(rendezvous)),
      listener_(std::move(listener)),
      slots_(static_cast<std::size_t>(options.ranks)) {
  listener_->serve(
      rendezvous_->secret(), hello_at_door(options_),
      [this](const wire::Hello& hello) { return admit(hello); },
      [this](Socket socket, const wire::Hello& hello) { accept(std::move(socket), hello); });
  context_->restart();
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "dist-door");
}

Door::~Door() {
  context_->stop();
  thread_.join();
}

// The listener always waits for the next connection, so run() ends by stop() alone.
void Door::run() {
  while (!context_->stopped()) {
    try {
      context_->run();
    } catch (const std::exception&) {
      // Asio's objects are made with calls that throw when descriptors run out: that one connection
      // is dropped.
    }
  }
}

wire::Verdict Door::admit(const wire::Hello& hello) {
  if (!options_.may_leave(static_cast<Rank>(hello.rank)) || hello.channel >= kChannels) {
    return wire::Verdict::wrong_rank;
  }
  const Slot& slot = slots_[hello.rank];
  if (!slot.used || hello.epoch > slot.incarnation) return wire::Verdict::welcome;
  if (hello.epoch < slot.incarnation || slot.whole) return wire::Verdict::superseded;
  return slot.sockets[hello.channel].valid() ? wire::Verdict::duplicate : wire::Verdict::welcome;
}

void Door::accept(Socket socket, const wire::Hello& hello) {
  // Between the verdict and the end of the answer another connection may have come in.
  if (admit(hello) != wire::Verdict::welcome) return;
  Slot& slot = slots_[hello.rank];
  if (!slot.used || hello.epoch > slot.incarnation) {
    slot = Slot();
    slot.used = true;
    slot.incarnation = hello.epoch;
  }
  slot.sockets[hello.channel] = detach(std::move(socket), options_.timeout);
  slot.whole = std::all_of(slot.sockets.begin(), slot.sockets.end(),
                           [](const FileDescriptor& channel) { return channel.valid(); });
  if (!slot.whole) return;
  {
    const std::lock_guard lock(mutex_);
    arrivals_.push_back({static_cast<Rank>(hello.rank), slot.incarnation, std::move(slot.sockets)});
    any_.store(true, std::memory_order_release);
  }
  on_arrival_();
}

std::vector<Arrival> Door::take() {
  if (!any_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock(mutex_);
  any_.store(false, std::memory_order_relaxed);
  return std::exchange(arrivals_, {});
}

}  // namespace dist::tcp
