// SPDX-License-Identifier: Apache-2.0
// A stream of bytes from one rank to another through a ring of shared memory: one writer, one
// reader, no locks. Each end keeps its own position to itself and publishes it, so that a damaged
// peer can be noticed and cannot make this end write outside the ring.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dist {

/// The published positions, in bytes since the start, each on a cache line of its own. In shared
/// memory.
struct ByteRingPositions {
  alignas(64) std::atomic<std::uint64_t> written{0};
  alignas(64) std::atomic<std::uint64_t> read{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// The writer's end. Bytes put become visible to the reader with publish().
class ByteRingWriter {
 public:
  ByteRingWriter(ByteRingPositions* positions, std::span<std::byte> ring)
      : positions_(positions), ring_(ring) {}

  /// Bytes that put() would take now.
  std::size_t room() const;

  /// Copies as many bytes as there is room for; returns how many.
  std::size_t put(std::span<const std::byte> bytes);

  void publish() { positions_->written.store(written_, std::memory_order_seq_cst); }

 private:
  ByteRingPositions* positions_;
  std::span<std::byte> ring_;
  std::uint64_t written_ = 0;
};

/// The reader's end. Room taken from the ring is given back with publish().
class ByteRingReader {
 public:
  ByteRingReader(ByteRingPositions* positions, std::span<const std::byte> ring)
      : positions_(positions), ring_(ring) {}

  /// Bytes that get() would give now.
  std::size_t available() const;

  /// Whether the writer's position can be true: it never has more in the ring than the ring holds.
  bool plausible() const;

  /// Copies as many bytes as there are; returns how many.
  std::size_t get(std::span<std::byte> bytes);

  void publish() { positions_->read.store(read_, std::memory_order_seq_cst); }

 private:
  ByteRingPositions* positions_;
  std::span<const std::byte> ring_;
  std::uint64_t read_ = 0;
};

}  // namespace dist
