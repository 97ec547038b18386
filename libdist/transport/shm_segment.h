// SPDX-License-Identifier: Apache-2.0
// The memory that the ranks of one host share, and what lies where in it:
//
//   SegmentHeader | RankSlot a rank | ByteRingPositions a (pair, channel) | bytes a (pair, channel)
//
// A pair is ordered (from, to). Each channel of a pair has a ring of its own, so that none can hold
// up another. All sizes follow from the number of ranks. Change the layout, change kSegmentVersion.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "libdist/transport/byte_ring.h"
#include "libdist/transport/doorbell.h"
#include "libdist/transport/process_identity.h"
#include "libdist/transport/transport.h"

namespace dist {

inline constexpr std::uint64_t kSegmentMagic = 0x6d68737473696400;  // "\0distshm", little-endian
inline constexpr std::uint32_t kSegmentVersion = 1;

/// What tells a segment of this job and build from any other; written before others can open it.
struct SegmentIdentity {
  std::uint64_t magic = kSegmentMagic;
  std::uint32_t version = kSegmentVersion;
  std::int32_t ranks = 0;
  std::uint64_t job = 0;
  std::uint64_t segment_bytes = 0;
  ProcessIdentity creator;  ///< rank 0
};

enum class SegmentState : std::uint32_t { gathering, ready, failed };

struct SegmentHeader {
  SegmentIdentity identity;
  std::atomic<SegmentState> state{SegmentState::gathering};
};

enum class Attachment : std::uint32_t { none, claimed, attached };

/// One rank's place. `process` is set before attachment becomes `attached`, and 0 for threads.
struct alignas(64) RankSlot {
  std::atomic<Attachment> attachment{Attachment::none};
  std::atomic<std::uint32_t> closed{0};
  ProcessIdentity process;
  Doorbell doorbell;
};

/// Pure: offsets in bytes for a number of ranks.
class SegmentLayout {
 public:
  explicit SegmentLayout(int ranks);

  int ranks() const { return ranks_; }
  std::uint64_t slot_offset(Rank rank) const;
  std::uint64_t positions_offset(Rank from, Rank to, Channel channel) const;
  std::uint64_t ring_offset(Rank from, Rank to, Channel channel) const;
  std::uint64_t ring_bytes(Channel channel) const;
  std::uint64_t segment_bytes() const;

 private:
  std::uint64_t pair_index(Rank from, Rank to) const;
  std::uint64_t pairs() const;
  std::uint64_t positions_begin() const;
  std::uint64_t rings_begin() const;

  int ranks_;
  std::uint64_t part_bytes_;  // a pair's rings have 16 parts
};

/// The mapped memory; unmapped with the last owner.
class ShmSegment {
 public:
  /// Fresh memory of this process, for ranks that are threads.
  static std::shared_ptr<ShmSegment> on_heap(int ranks);

  /// Takes over memory of layout.segment_bytes() bytes; `release` is called at the end. construct()
  /// must have been called on the memory, by this process or another.
  ShmSegment(std::byte* base, SegmentLayout layout, std::function<void(std::byte*)> release);
  ~ShmSegment();
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;

  /// Makes the objects in raw memory.
  static void construct(std::byte* base, const SegmentLayout& layout, std::uint64_t job,
                        const ProcessIdentity& creator);

  const SegmentLayout& layout() const { return layout_; }
  SegmentHeader& header() const;
  RankSlot& slot(Rank rank) const;
  ByteRingPositions* positions(Rank from, Rank to, Channel channel) const;
  std::span<std::byte> ring(Rank from, Rank to, Channel channel) const;

 private:
  std::byte* base_;
  SegmentLayout layout_;
  std::function<void(std::byte*)> release_;
};

}  // namespace dist
