// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/shm.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "libdist/transport/operation_table.h"
#include "libdist/transport/shm_rendezvous.h"
#include "libdist/transport/shm_segment.h"
#include "libdist/transport/shm_stream.h"

namespace dist {
namespace {

// A killed process rings nobody: it is looked for at this rhythm.
constexpr Duration kCheckAliveEvery = std::chrono::milliseconds(50);
// Callers may say "for ever"; a point in time cannot.
constexpr Duration kLongestIdle = std::chrono::hours(1);
// Worth spinning: about what sleeping and being woken costs. Less where ranks (each with a thread
// that computes and one that communicates) outnumber cores and spinning takes time from others.
constexpr Duration kSpin = std::chrono::microseconds(20);
constexpr Duration kSpinCrowded = std::chrono::microseconds(2);

Duration spin_for(int ranks) {
  return 2u * static_cast<unsigned>(ranks) <= std::thread::hardware_concurrency() ? kSpin
                                                                                  : kSpinCrowded;
}

class ShmTransport final : public Transport {
 public:
  ShmTransport(std::shared_ptr<ShmSegment> segment, Rank rank);
  ~ShmTransport() override { close(Duration::zero()); }

  std::string_view name() const override { return "shm"; }
  Rank rank() const override { return rank_; }
  int ranks() const override { return segment_->layout().ranks(); }
  TransferCounters counters() const override { return counters_; }
  bool finished(Operation operation) const override { return operations_.finished(operation); }
  Status take(Operation operation) override { return operations_.take(operation); }

  Operation send(Rank to, Channel channel, std::span<const std::byte> bytes) override;
  Operation receive(Rank from, Channel channel, std::span<std::byte> bytes) override;
  void progress(Duration idle) override;
  void wake() override;
  void close(Duration grace) override;

 private:
  // What this rank knows of another one.
  struct Peer {
    RankSlot* slot = nullptr;  // nullptr: the own rank
    Status gone;               // ok while it lives
    std::vector<ShmOutbox> outboxes;
    std::vector<ShmInbox> inboxes;
  };

  ShmStreamContext context() { return {operations_, counters_}; }
  Peer& peer(Rank rank);
  bool move_all();
  bool move(ShmOutbox& outbox);
  bool move(ShmInbox& inbox);
  bool bury_the_dead(bool look_at_processes);
  bool has_work(const Peer& peer) const;
  void bury(Peer& peer);
  bool find_work(TimePoint now);

  std::shared_ptr<ShmSegment> segment_;
  Rank rank_;
  Duration spin_;
  Doorbell& doorbell_;
  std::atomic<bool> woken_{false};
  bool closed_ = false;
  OperationTable operations_;
  TransferCounters counters_;
  std::vector<Peer> peers_;
  std::vector<ShmOutbox*> sending_;   // those with queued operations
  std::vector<ShmInbox*> receiving_;  // those with queued operations
  TimePoint check_alive_at_;
};

ShmTransport::ShmTransport(std::shared_ptr<ShmSegment> segment, Rank rank)
    : segment_(std::move(segment)),
      rank_(rank),
      spin_(spin_for(segment_->layout().ranks())),
      doorbell_(segment_->slot(rank).doorbell),
      peers_(static_cast<std::size_t>(segment_->layout().ranks())) {
  for (Rank other = 0; other < ranks(); ++other) {
    if (other == rank_) continue;
    Peer& added = peers_[static_cast<std::size_t>(other)];
    added.slot = &segment_->slot(other);
    for (int c = 0; c < kChannels; ++c) {
      const auto channel = static_cast<Channel>(c);
      added.outboxes.emplace_back(other, channel,
                                  ByteRingWriter(segment_->positions(rank_, other, channel),
                                                 segment_->ring(rank_, other, channel)));
      added.inboxes.emplace_back(other, channel,
                                 ByteRingReader(segment_->positions(other, rank_, channel),
                                                segment_->ring(other, rank_, channel)));
    }
  }
}

ShmTransport::Peer& ShmTransport::peer(Rank rank) {
  DIST_ASSERT(rank >= 0 && rank < ranks() && rank != rank_, "no such peer");
  return peers_[static_cast<std::size_t>(rank)];
}

// Both start at once: most messages fit, and the peer need not wait for the next progress().
Operation ShmTransport::send(Rank to, Channel channel, std::span<const std::byte> bytes) {
  Peer& receiver = peer(to);
  ShmOutbox& outbox = receiver.outboxes[static_cast<std::size_t>(channel)];
  const Operation operation = operations_.add();
  const bool was_empty = outbox.empty();
  outbox.add(operation, bytes);
  if (closed_) {
    outbox.fail(operations_, Status::cancelled("this rank has closed the transport"));
  } else if (!receiver.gone.ok()) {
    outbox.fail(operations_, receiver.gone);
  } else if (receiver.slot->closed.load() != 0) {
    bury_the_dead(false);
  } else if (was_empty) {
    move(outbox);
    if (!outbox.empty()) sending_.push_back(&outbox);
  }
  return operation;
}

Operation ShmTransport::receive(Rank from, Channel channel, std::span<std::byte> bytes) {
  Peer& sender = peer(from);
  ShmInbox& inbox = sender.inboxes[static_cast<std::size_t>(channel)];
  const Operation operation = operations_.add();
  const bool was_empty = inbox.empty();
  inbox.add(operation, bytes);
  if (closed_) {
    inbox.fail(operations_, Status::cancelled("this rank has closed the transport"));
  } else if (!sender.gone.ok()) {
    while (move(inbox)) {
    }
    inbox.fail(operations_, sender.gone);
  } else if (was_empty) {
    move(inbox);
    if (!inbox.empty()) receiving_.push_back(&inbox);
  }
  return operation;
}

bool ShmTransport::move(ShmOutbox& outbox) {
  const bool moved = outbox.move(context());
  if (moved) peer(outbox.peer()).slot->doorbell.ring();
  return moved;
}

bool ShmTransport::move(ShmInbox& inbox) {
  const bool moved = inbox.move(context());
  if (moved) peer(inbox.peer()).slot->doorbell.ring();
  return moved;
}

bool ShmTransport::move_all() {
  bool moved = false;
  for (ShmInbox* inbox : receiving_) moved |= move(*inbox);
  for (ShmOutbox* outbox : sending_) moved |= move(*outbox);
  if (moved) {
    std::erase_if(receiving_, [](const ShmInbox* inbox) { return inbox->empty(); });
    std::erase_if(sending_, [](const ShmOutbox* outbox) { return outbox->empty(); });
  }
  return moved;
}

bool ShmTransport::has_work(const Peer& peer) const {
  const auto busy = [](const auto& box) { return !box.empty(); };
  return std::any_of(peer.inboxes.begin(), peer.inboxes.end(), busy) ||
         std::any_of(peer.outboxes.begin(), peer.outboxes.end(), busy);
}

// Ends the operations that wait for ranks that are gone; true if there were any.
bool ShmTransport::bury_the_dead(bool look_at_processes) {
  bool ended = false;
  for (Rank other = 0; other < ranks(); ++other) {
    Peer& suspect = peers_[static_cast<std::size_t>(other)];
    if (suspect.slot == nullptr || !suspect.gone.ok() || !has_work(suspect)) continue;
    const auto& process = suspect.slot->process;
    const auto who = process.pid == 0 ? fmt::format("rank {}", other)
                                      : fmt::format("rank {} (pid {})", other, process.pid);
    if (suspect.slot->closed.load() != 0) {
      suspect.gone = Status::peer_lost(who + " has closed the transport");
    } else if (look_at_processes && process.pid != 0 && !is_alive(process)) {
      suspect.gone = Status::peer_lost(who + " is gone");
    } else {
      continue;
    }
    bury(suspect);
    ended = true;
  }
  return ended;
}

// What the peer had put into the rings before it went still counts.
void ShmTransport::bury(Peer& peer) {
  for (ShmInbox& inbox : peer.inboxes) {
    while (move(inbox)) {
    }
    inbox.fail(operations_, peer.gone);
  }
  for (ShmOutbox& outbox : peer.outboxes) outbox.fail(operations_, peer.gone);
  std::erase_if(receiving_, [](const ShmInbox* inbox) { return inbox->empty(); });
  std::erase_if(sending_, [](const ShmOutbox* outbox) { return outbox->empty(); });
}

// One look for anything to do.
bool ShmTransport::find_work(TimePoint now) {
  const bool moved = move_all();
  const bool look_at_processes = now >= check_alive_at_;
  if (moved && !look_at_processes) return true;
  if (look_at_processes) check_alive_at_ = now + kCheckAliveEvery;
  return bury_the_dead(look_at_processes) || moved;
}

void ShmTransport::progress(Duration idle) {
  const auto start = Clock::now();
  if (find_work(start) || idle <= Duration::zero()) {
    woken_.store(false);
    return;
  }
  const auto end = start + std::min(idle, kLongestIdle);
  auto now = start;
  for (const auto spin_end = std::min(end, start + spin_); now < spin_end; now = Clock::now()) {
    if (woken_.exchange(false) || move_all()) return;
    pause_briefly();
  }
  for (; now < end; now = Clock::now()) {
    const auto armed = doorbell_.arm();
    if (woken_.exchange(false) || find_work(now)) {
      doorbell_.disarm();
      return;
    }
    doorbell_.sleep(armed, std::min(end, check_alive_at_) - now);
  }
}

void ShmTransport::wake() {
  woken_.store(true);
  doorbell_.ring();
}

void ShmTransport::close(Duration) {
  if (closed_) return;
  closed_ = true;
  const auto why = Status::cancelled("this rank has closed the transport");
  for (Peer& other : peers_) {
    for (ShmOutbox& outbox : other.outboxes) outbox.fail(operations_, why);
    for (ShmInbox& inbox : other.inboxes) inbox.fail(operations_, why);
  }
  sending_.clear();
  receiving_.clear();
  segment_->slot(rank_).closed.store(1);
  for (Peer& other : peers_) {
    if (other.slot != nullptr) other.slot->doorbell.ring();
  }
}

}  // namespace

Result<std::unique_ptr<Transport>> open_shm(const Options& options) {
  DIST_TRY(options.validate());
  if (options.ranks == 1) return std::move(make_shm_group(1).front());
  auto segment = meet_in_segment(options);
  DIST_TRY(segment);
  return std::unique_ptr<Transport>(
      std::make_unique<ShmTransport>(*std::move(segment), options.rank));
}

std::vector<std::unique_ptr<Transport>> make_shm_group(int ranks) {
  const auto segment = ShmSegment::on_heap(ranks);
  std::vector<std::unique_ptr<Transport>> group;
  group.reserve(static_cast<std::size_t>(ranks));
  for (Rank rank = 0; rank < ranks; ++rank) {
    group.push_back(std::make_unique<ShmTransport>(segment, rank));
  }
  return group;
}

}  // namespace dist
