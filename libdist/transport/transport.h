// SPDX-License-Identifier: Apache-2.0
// How bytes get from one rank to another, and nothing else: no element types, no algorithm, no
// strategy.
//
// A transport is driven by polling, by one thread at a time (whoever drives the rank's Progress);
// only wake() may be called from elsewhere. Messages between two ranks on one channel arrive whole
// and in order; a receive states the exact size it expects. Nothing is buffered for a receive that
// was not posted: post receives in the order in which the peer sends. Every operation ends: with
// success, or with a Status that names the peer; waiting is bounded by the caller's deadline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// Independent message streams between each pair of ranks.
enum class Channel : std::uint8_t {
  collective = 0,  ///< ring and other plans
  to_server = 1,   ///< worker -> parameter server
  to_worker = 2,   ///< parameter server -> worker
  control = 3,     ///< barriers, start-up checks, servers among themselves
};
/// How many there are.
inline constexpr int kChannels = 4;
/// "collective", "to_server", ...
std::string_view name_of(Channel channel);

/// Names one send or receive in flight. Ids are never reused within a transport.
struct Operation {
  std::uint64_t id = 0;  ///< means something to its transport only
};

/// What a transport can do beyond the interface.
struct Capabilities {
  bool device_memory = false;  ///< spans may lie in GPU memory
  bool peer_memory = false;    ///< a peer's arena can be read where it lies
  bool losable_peers = false;  ///< a lost peer ends only what is in flight with it
};

/// Payload bytes moved since the transport was opened, headers left out.
struct TransferCounters {
  Bytes sent;                             ///< to all peers
  Bytes received;                         ///< from all peers
  std::uint64_t messages_sent = 0;        ///< whole messages, as received ones
  std::uint64_t messages_received = 0;    ///< by posted receives
  std::uint64_t connections_refused = 0;  ///< strangers, forgers and strays that knocked
};

/// One rank's end of the wires to all others. Neither copied nor moved.
class Transport {
 public:
  virtual ~Transport() = default;
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  /// "shm", "tcp", "mpi".
  virtual std::string_view name() const = 0;
  /// This rank.
  virtual Rank rank() const = 0;
  /// How many there are.
  virtual int ranks() const = 0;
  /// Constant in its life.
  virtual Capabilities capabilities() const { return {}; }
  /// Of the driving thread.
  virtual TransferCounters counters() const = 0;

  /// Starts to send `bytes` (any length, also 0) to another rank. The memory belongs to the
  /// transport until the operation has finished. `to` is never the own rank.
  virtual Operation send(Rank to, Channel channel, std::span<const std::byte> bytes) = 0;

  /// Starts to receive a message of exactly bytes.size() bytes. A message of another size is a
  /// protocol error. `from` is never the own rank.
  virtual Operation receive(Rank from, Channel channel, std::span<std::byte> bytes) = 0;

  /// Moves what can be moved. Where nothing can, waits until something can, wake() is called, or
  /// `idle` has passed: a short spin first, then asleep, so that ranks may outnumber cores.
  virtual void progress(Duration idle) = 0;

  /// Ends a progress() that sleeps, from any thread.
  virtual void wake() = 0;

  /// True once the operation has succeeded or failed. Does not move bytes: progress() does.
  virtual bool finished(Operation operation) const = 0;

  /// Its outcome; forgets the operation. Only after finished() has said true.
  virtual Status take(Operation operation) = 0;

  /// In an elastic world (Options::elastic): which life of the peer this rank is connected to, or
  /// was last; none before the first. When another one comes, what was in flight with the old one
  /// has failed with peer_lost. In other worlds there is only the first life, 0.
  virtual std::optional<std::uint32_t> incarnation(Rank peer) const;

  /// Where peers are losable: ends the connection with a peer and everything in flight with it,
  /// with `why`.
  virtual void disconnect(Rank peer, const Status& why);

  /// Says goodbye: every operation in flight fails and its memory is not touched again; what was
  /// already sent (its operation has finished) may still be delivered for at most `grace`; peers
  /// that later need this rank get peer_lost. Called by destructors with a short grace.
  virtual void close(Duration grace) = 0;

  /// Blocks until the operation has finished, then forgets it; or until `deadline` has passed. A
  /// timed-out operation stays in flight and its memory in use: the transport is unusable for that
  /// peer and channel, close it.
  Status wait(Operation operation, TimePoint deadline);

  /// Sends one way and receives the other as one call; cannot deadlock on full pipes.
  Status exchange(Rank to, std::span<const std::byte> out, Rank from, std::span<std::byte> in,
                  Channel channel, TimePoint deadline);
};

}  // namespace dist
