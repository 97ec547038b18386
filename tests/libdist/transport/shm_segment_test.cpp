// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/shm_segment.h"

#include <algorithm>
#include <cstdint>

#include "tests/support/catch.h"

namespace dist {
namespace {

struct Place {
  std::uint64_t begin;
  std::uint64_t end;
};

std::vector<Place> places(const SegmentLayout& layout) {
  std::vector<Place> all{{0, sizeof(SegmentHeader)}};
  for (Rank from = 0; from < layout.ranks(); ++from) {
    all.push_back({layout.slot_offset(from), layout.slot_offset(from) + sizeof(RankSlot)});
    for (Rank to = 0; to < layout.ranks(); ++to) {
      if (to == from) continue;
      for (int c = 0; c < kChannels; ++c) {
        const auto channel = static_cast<Channel>(c);
        const auto positions = layout.positions_offset(from, to, channel);
        all.push_back({positions, positions + sizeof(ByteRingPositions)});
        const auto ring = layout.ring_offset(from, to, channel);
        all.push_back({ring, ring + layout.ring_bytes(channel)});
      }
    }
  }
  return all;
}

}  // namespace

TEST_CASE("nothing in a segment overlaps, everything lies on cache lines, nothing sticks out") {
  for (int ranks = 1; ranks <= 20; ++ranks) {
    const SegmentLayout layout(ranks);
    auto all = places(layout);
    std::sort(all.begin(), all.end(), [](Place a, Place b) { return a.begin < b.begin; });
    for (std::size_t i = 0; i < all.size(); ++i) {
      REQUIRE(all[i].begin % 64 == 0);
      REQUIRE(all[i].end > all[i].begin);
      REQUIRE(all[i].end <= (i + 1 < all.size() ? all[i + 1].begin : layout.segment_bytes()));
    }
  }
}

TEST_CASE("16 ranks fit into the shared memory of a container") {
  for (int ranks = 1; ranks <= 16; ++ranks) {
    REQUIRE(SegmentLayout(ranks).segment_bytes() <= (64u << 20));
  }
  REQUIRE(SegmentLayout(2).ring_bytes(Channel::collective) >= (256u << 10));
  REQUIRE(SegmentLayout(16).ring_bytes(Channel::collective) >= (64u << 10));
  REQUIRE(SegmentLayout(64).ring_bytes(Channel::control) >= 1024);
}

TEST_CASE("a segment of this process begins empty and ready") {
  const auto segment = ShmSegment::on_heap(3);
  REQUIRE(segment->header().identity.magic == kSegmentMagic);
  REQUIRE(segment->header().identity.ranks == 3);
  REQUIRE(segment->header().state == SegmentState::ready);
  REQUIRE(reinterpret_cast<std::uintptr_t>(&segment->header()) % 64 == 0);
  for (Rank rank = 0; rank < 3; ++rank) {
    REQUIRE(segment->slot(rank).attachment == Attachment::attached);
    REQUIRE(segment->slot(rank).closed == 0);
    for (Rank to = 0; to < 3; ++to) {
      if (to == rank) continue;
      REQUIRE(segment->positions(rank, to, Channel::control)->written == 0);
      REQUIRE(segment->ring(rank, to, Channel::control).size() ==
              segment->layout().ring_bytes(Channel::control));
    }
  }
}

}  // namespace dist
