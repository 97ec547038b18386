// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/shm_stream.h"

#include <fmt/format.h>

#include <algorithm>

namespace dist {
namespace {

// Copied before it is published: small enough that the other end works on one part in the cache
// while this end copies the next.
constexpr std::size_t kPublishBytes = 64 << 10;
constexpr int kPublishesPerMove = 8;
constexpr std::size_t kHeaderBytes = sizeof(ShmMessageHeader);

std::uint64_t payload_moved(std::size_t moved) {
  return moved > kHeaderBytes ? moved - kHeaderBytes : 0;
}

}  // namespace

void ShmOutbox::add(Operation operation, std::span<const std::byte> bytes) {
  queue_.push_back({operation, bytes, {.message_bytes = bytes.size()}});
}

// Header and first bytes leave together, so that a small message is one publication.
std::size_t ShmOutbox::put_next(Entry& entry) {
  const auto before = entry.moved;
  if (entry.moved < kHeaderBytes) {
    entry.moved += ring_.put(std::as_bytes(std::span(&entry.header, 1)).subspan(entry.moved));
  }
  if (entry.moved >= kHeaderBytes) {
    const auto rest = entry.bytes.subspan(entry.moved - kHeaderBytes);
    entry.moved += ring_.put(rest.first(std::min(rest.size(), kPublishBytes)));
  }
  return entry.moved - before;
}

bool ShmOutbox::move(ShmStreamContext context) {
  bool moved_any = false;
  for (int i = 0; i < kPublishesPerMove && !queue_.empty(); ++i) {
    Entry& entry = queue_.front();
    const auto payload_before = payload_moved(entry.moved);
    const auto moved = put_next(entry);
    if (moved == 0) break;
    moved_any = true;
    ring_.publish();
    context.counters.sent += Bytes(payload_moved(entry.moved) - payload_before);
    if (entry.moved == kHeaderBytes + entry.bytes.size()) {
      ++context.counters.messages_sent;
      context.operations.finish(entry.operation, {});
      queue_.pop_front();
    }
  }
  return moved_any;
}

void ShmOutbox::fail(OperationTable& operations, const Status& why) {
  for (const Entry& entry : queue_) {
    operations.finish(entry.operation,
                      why.because(fmt::format("send of {} bytes to rank {} on {}, {} moved -> shm",
                                              entry.bytes.size(), peer_, name_of(channel_),
                                              payload_moved(entry.moved))));
  }
  queue_.clear();
}

void ShmInbox::add(Operation operation, std::span<std::byte> bytes) {
  queue_.push_back({operation, bytes, {}});
}

std::size_t ShmInbox::get_next(Entry& entry) {
  const auto before = entry.moved;
  if (entry.moved < kHeaderBytes) {
    entry.moved +=
        ring_.get(std::as_writable_bytes(std::span(&entry.header, 1)).subspan(entry.moved));
  }
  if (entry.moved >= kHeaderBytes && entry.header.message_bytes == entry.bytes.size()) {
    const auto rest = entry.bytes.subspan(entry.moved - kHeaderBytes);
    entry.moved += ring_.get(rest.first(std::min(rest.size(), kPublishBytes)));
  }
  return entry.moved - before;
}

Status ShmInbox::check(const Entry& entry) const {
  if (!ring_.plausible()) {
    return Status::protocol(fmt::format("rank {} damaged the shared memory", peer_));
  }
  if (entry.moved >= kHeaderBytes && entry.header.message_bytes != entry.bytes.size()) {
    return Status::protocol(fmt::format("rank {} sent a message of {} bytes where {} were expected",
                                        peer_, entry.header.message_bytes, entry.bytes.size()));
  }
  return {};
}

bool ShmInbox::move(ShmStreamContext context) {
  bool moved_any = false;
  for (int i = 0; i < kPublishesPerMove && !queue_.empty(); ++i) {
    Entry& entry = queue_.front();
    const auto payload_before = payload_moved(entry.moved);
    const auto moved = broken_.ok() ? get_next(entry) : 0;
    if (broken_.ok()) broken_ = check(entry);
    if (!broken_.ok()) {
      fail(context.operations, broken_);
      return true;
    }
    if (moved == 0) break;
    moved_any = true;
    ring_.publish();
    context.counters.received += Bytes(payload_moved(entry.moved) - payload_before);
    if (entry.moved == kHeaderBytes + entry.bytes.size()) {
      ++context.counters.messages_received;
      context.operations.finish(entry.operation, {});
      queue_.pop_front();
    }
  }
  return moved_any;
}

void ShmInbox::fail(OperationTable& operations, const Status& why) {
  for (const Entry& entry : queue_) {
    operations.finish(
        entry.operation,
        why.because(fmt::format("receive of {} bytes from rank {} on {}, {} moved -> shm",
                                entry.bytes.size(), peer_, name_of(channel_),
                                payload_moved(entry.moved))));
  }
  queue_.clear();
}

}  // namespace dist
