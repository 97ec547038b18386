// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/shm_segment.h"

#include <algorithm>
#include <array>
#include <new>

namespace dist {
namespace {

// 16 ranks make 240 pairs and must fit into the 64 MiB that docker gives /dev/shm.
constexpr std::uint64_t kRingBudgetBytes = 60ull << 20;
constexpr std::uint64_t kMostPairBytes = 1ull << 20;
constexpr std::uint64_t kLeastPairBytes = 16ull << 10;
constexpr std::uint64_t kLineBytes = 64;
constexpr std::uint64_t kPageBytes = 4096;

// Sixteenths of a pair's bytes: the channels that carry gradients get what counts.
constexpr std::uint64_t kPartsOfPair = 16;
constexpr std::array<std::uint64_t, kChannels> kPartsOfChannel = {7, 4, 4, 1};

std::size_t index_of(Channel channel) { return static_cast<std::size_t>(channel); }

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

SegmentLayout::SegmentLayout(int ranks) : ranks_(ranks) {
  DIST_ASSERT(ranks >= 1, "a segment needs at least one rank");
  const auto share = kRingBudgetBytes / std::max<std::uint64_t>(pairs(), 1);
  const auto pair_bytes = std::clamp(share, kLeastPairBytes, kMostPairBytes);
  part_bytes_ = pair_bytes / kPartsOfPair / kLineBytes * kLineBytes;
}

std::uint64_t SegmentLayout::pairs() const {
  const auto n = static_cast<std::uint64_t>(ranks_);
  return n * (n - 1);
}

std::uint64_t SegmentLayout::pair_index(Rank from, Rank to) const {
  DIST_ASSERT(from >= 0 && from < ranks_ && to >= 0 && to < ranks_ && from != to,
              "no such pair of ranks");
  return static_cast<std::uint64_t>(from) * static_cast<std::uint64_t>(ranks_ - 1) +
         static_cast<std::uint64_t>(to < from ? to : to - 1);
}

std::uint64_t SegmentLayout::slot_offset(Rank rank) const {
  return round_up(sizeof(SegmentHeader), kLineBytes) +
         static_cast<std::uint64_t>(rank) * sizeof(RankSlot);
}

std::uint64_t SegmentLayout::positions_begin() const { return slot_offset(ranks_); }

std::uint64_t SegmentLayout::positions_offset(Rank from, Rank to, Channel channel) const {
  return positions_begin() +
         (pair_index(from, to) * kChannels + index_of(channel)) * sizeof(ByteRingPositions);
}

std::uint64_t SegmentLayout::rings_begin() const {
  return round_up(positions_begin() + pairs() * kChannels * sizeof(ByteRingPositions), kPageBytes);
}

std::uint64_t SegmentLayout::ring_offset(Rank from, Rank to, Channel channel) const {
  std::uint64_t parts = pair_index(from, to) * kPartsOfPair;
  for (std::size_t c = 0; c < index_of(channel); ++c) parts += kPartsOfChannel[c];
  return rings_begin() + parts * part_bytes_;
}

std::uint64_t SegmentLayout::ring_bytes(Channel channel) const {
  return kPartsOfChannel[index_of(channel)] * part_bytes_;
}

std::uint64_t SegmentLayout::segment_bytes() const {
  return rings_begin() + pairs() * kPartsOfPair * part_bytes_;
}

std::shared_ptr<ShmSegment> ShmSegment::on_heap(int ranks) {
  const SegmentLayout layout(ranks);
  constexpr std::align_val_t kAlignment{kPageBytes};
  auto* base = static_cast<std::byte*>(::operator new(layout.segment_bytes(), kAlignment));
  construct(base, layout, 0, {});
  auto segment = std::make_shared<ShmSegment>(
      base, layout, [=](std::byte* memory) { ::operator delete(memory, kAlignment); });
  for (Rank rank = 0; rank < ranks; ++rank) segment->slot(rank).attachment = Attachment::attached;
  segment->header().state = SegmentState::ready;
  return segment;
}

ShmSegment::ShmSegment(std::byte* base, SegmentLayout layout,
                       std::function<void(std::byte*)> release)
    : base_(base), layout_(layout), release_(std::move(release)) {}

ShmSegment::~ShmSegment() { release_(base_); }

void ShmSegment::construct(std::byte* base, const SegmentLayout& layout, std::uint64_t job,
                           const ProcessIdentity& creator) {
  new (base) SegmentHeader{.identity = {.ranks = layout.ranks(),
                                        .job = job,
                                        .segment_bytes = layout.segment_bytes(),
                                        .creator = creator}};
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    new (base + layout.slot_offset(rank)) RankSlot;
    for (Rank to = 0; to < layout.ranks(); ++to) {
      if (to == rank) continue;
      for (int channel = 0; channel < kChannels; ++channel) {
        new (base + layout.positions_offset(rank, to, static_cast<Channel>(channel)))
            ByteRingPositions;
      }
    }
  }
}

SegmentHeader& ShmSegment::header() const {
  return *std::launder(reinterpret_cast<SegmentHeader*>(base_));
}

RankSlot& ShmSegment::slot(Rank rank) const {
  return *std::launder(reinterpret_cast<RankSlot*>(base_ + layout_.slot_offset(rank)));
}

ByteRingPositions* ShmSegment::positions(Rank from, Rank to, Channel channel) const {
  return std::launder(
      reinterpret_cast<ByteRingPositions*>(base_ + layout_.positions_offset(from, to, channel)));
}

std::span<std::byte> ShmSegment::ring(Rank from, Rank to, Channel channel) const {
  return {base_ + layout_.ring_offset(from, to, channel), layout_.ring_bytes(channel)};
}

}  // namespace dist
