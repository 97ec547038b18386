// SPDX-License-Identifier: Apache-2.0
// What a strategy has to do with checkpoints: it gives away copies of what its rank owns, and takes
// what its rank needs. Neither side knows files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::checkpoint {

/// Neighbouring elements of the arena: their parameters (array 0) and the state that the update
/// keeps for them (the others), raw bytes of the arena's type; or what compression holds back.
struct Part {
  Range range;                                     ///< of the arena
  std::uint64_t version = 0;                       ///< updates applied to these elements
  std::vector<std::span<const std::byte>> arrays;  ///< valid as long as the Snapshot
  std::uint32_t first_array = 0;                   ///< the number of arrays[0], see format.h
};

/// One rank's share of a checkpoint, with memory of its own. All shards of a step together hold
/// every element once.
class Snapshot {
 public:
  /// Shard `shard` of `shards` of the parameters that hold `step` steps.
  Snapshot(std::uint64_t step, int shard, int shards)
      : step_(step), shard_(shard), shards_(shards) {}

  /// Adds a copy.
  void add(Range range, std::uint64_t version, std::span<const std::span<const std::byte>> arrays,
           std::uint32_t first_array = 0);

  /// Steps whose updates it holds.
  std::uint64_t step() const { return step_; }
  /// Its number among the shards.
  int shard() const { return shard_; }
  /// How many there are.
  int shards() const { return shards_; }
  /// What was added.
  const std::vector<Part>& parts() const { return parts_; }

 private:
  std::uint64_t step_;
  int shard_;
  int shards_;
  std::vector<Part> parts_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
};

/// Where a resumed job comes from. One thread at a time.
class Source {
 public:
  virtual ~Source() = default;

  /// Steps whose updates it holds.
  virtual std::uint64_t step() const = 0;

  /// Whether there is anything of an array.
  virtual bool has(std::size_t array) const = 0;

  /// Fills `into` with the elements of a range of the arena: parameters (array 0), state (1 and
  /// on), or what is held back (see format.h). Gaps between parameters become zero. Errors: a
  /// damaged file; elements that are not there.
  virtual Status read(Range range, std::size_t array, std::span<std::byte> into) const = 0;

  /// Updates applied to a range: the smallest of its parts.
  virtual std::uint64_t version(Range range) const = 0;
};

/// Where snapshots go.
class Sink {
 public:
  virtual ~Sink() = default;
  /// Thread-safe; never blocks.
  virtual void accept(Snapshot snapshot) = 0;

  /// Whether no snapshot waits for those before it to be written. Who cannot wait may give another
  /// one all the same. Thread-safe.
  virtual bool has_room() const { return true; }

  /// The newest complete checkpoint as of now, null where none can be found. Reads files; any
  /// thread. Must not outlive the sink.
  virtual std::unique_ptr<Source> newest() const = 0;
};

}  // namespace dist::checkpoint
