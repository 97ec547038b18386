// SPDX-License-Identifier: Apache-2.0
// The ranks of a world as a group whose collectives run on their GPUs: enqueued on streams, with
// nobody waiting on the host, and watched, since a collective whose peer is gone never ends by
// itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "libdist/memory/device.h"
#include "libdist/options.h"
#include "libdist/progress.h"
#include "libdist/status.h"
#include "libdist/trace.h"
#include "libdist/types.h"

namespace dist::allreduce {

/// One collective or one message, in place, as enqueue() takes it. All ranks give the same kinds,
/// sizes, types and roots in the same order; empty data moves nothing.
struct DeviceOperation {
  enum class Kind : std::uint8_t {
    all_reduce,      ///< everybody's data becomes the reduction
    reduce_scatter,  ///< device_chunk() of the data becomes that of the reduction; the rest is lost
    all_gather,      ///< everybody's device_chunk() goes to all
    reduce,          ///< the root's data becomes the reduction; that of the others stays
    broadcast,       ///< everybody's data becomes the root's
    send,            ///< to the peer, which receives in the same enqueue()
    receive,
  };

  Kind kind = Kind::all_reduce;
  std::span<std::byte> data;
  DType dtype = DType::f32;
  Rank peer = 0;  ///< the root, or who is sent to or received from
  Reduction reduction = Reduction::sum;
};

constexpr std::string_view name_of(DeviceOperation::Kind kind) {
  constexpr std::array<std::string_view, 7> kNames = {
      "all-reduce", "reduce-scatter", "all-gather", "reduce", "broadcast", "send", "receive"};
  return kNames[static_cast<std::size_t>(kind)];
}

/// The part of `whole` that rank `rank` owns after a reduce-scatter: equal chunks, and the last
/// rank has what is left over besides.
constexpr Range device_chunk(Range whole, int ranks, Rank rank) {
  const auto equal = whole.elems() / static_cast<std::uint64_t>(ranks);
  const auto begin = whole.begin + static_cast<std::uint64_t>(rank) * equal;
  return {begin, rank == ranks - 1 ? whole.end : begin + equal};
}

/// Rules: all ranks enqueue the same in the same order, and where a process has several groups they
/// use them in one order. Calls come from one thread at a time, but for failure() and abort(). The
/// memory belongs to an operation until the stream is past it.
///
/// A failure ends the group and is a failure of the world's Progress: what was enqueued is aborted,
/// so that streams run dry (the values are then worthless), and every later call reports it. A
/// failure: an error that the library found at any time; no operation ended for Options::timeout
/// though some were enqueued; a failure of the Progress.
class DeviceGroup {
 public:
  virtual ~DeviceGroup() = default;
  DeviceGroup() = default;
  DeviceGroup(const DeviceGroup&) = delete;
  DeviceGroup& operator=(const DeviceGroup&) = delete;

  virtual std::string_view name() const = 0;
  virtual Rank rank() const = 0;
  virtual int ranks() const = 0;

  /// The operations together, as one, at this place of the stream; `what` names them in messages.
  /// Returns once they are on the stream: the first use of a kind may have to wait for the other
  /// ranks to come to it, later ones do not. Errors: timed_out, peer_lost, unavailable
  /// (an element type that the library cannot reduce), invalid_argument (a mean: sum and divide).
  virtual Status enqueue(Stream stream, std::span<const DeviceOperation> operations,
                         std::string_view what) = 0;

  Status enqueue(Stream stream, const DeviceOperation& operation, std::string_view what) {
    return enqueue(stream, std::span(&operation, 1), what);
  }

  /// Blocks until all that was enqueued has ended, or the group has failed.
  virtual Status wait() = 0;

  /// The first failure, or ok. Thread-safe, never blocks.
  virtual Status failure() const = 0;

  /// Fails the group. Thread-safe; bounded.
  virtual void abort(const Status& why) = 0;

  /// Collective, after the last operation: waits for all ranks' operations and leaves in peace. A
  /// group that is destroyed without it aborts what is in flight.
  virtual Status close() = 0;
};

/// Whether this build has NCCL; the reason where not.
Status nccl_available();

/// A new communicator among all ranks of a world, over whose transport (`progress`) they meet.
/// Collective; may be made several times. All that is given outlives the group. Errors, on all
/// ranks if on one: unavailable (no NCCL in this build, different versions of it, two ranks on one
/// GPU); timed_out, where NCCL does not come to an end within Options::connect_timeout.
Result<std::unique_ptr<DeviceGroup>> make_nccl_group(Progress& progress, Trace& trace,
                                                     const Options& options, Device& device);

}  // namespace dist::allreduce
