// SPDX-License-Identifier: Apache-2.0
#include "allreduce/host_all_reduce.h"

#include <algorithm>
#include <array>

#include "libdist/check.h"
#include "libdist/memory/reduce.h"

namespace dist::allreduce {
namespace {

// Up to here a second round of flags costs more than that everybody reduces everything.
constexpr std::uint64_t kSmallBytes = 16 << 10;
// Two pieces a member stay in the second-level cache.
constexpr std::uint64_t kPieceBytes = 256 << 10;
// Of each kind there are two, so that one is read while the other is written.
constexpr std::uint64_t kStagingBytes = 2 * (kSmallBytes + kPieceBytes);

std::span<std::byte> bytes_of_range(std::span<std::byte> data, Range range, DType dtype) {
  return data.subspan(range.begin * size_of(dtype), range.elems() * size_of(dtype));
}

void copy(std::span<const std::byte> from, std::span<std::byte> to) {
  std::copy(from.begin(), from.end(), to.begin());
}

}  // namespace

Result<std::unique_ptr<HostAllReduce>> HostAllReduce::meet(HostGroupOptions options) {
  auto group = HostGroup::meet(std::move(options));
  DIST_TRY(group);
  auto own = Mapping::map_shareable(Bytes(kStagingBytes));
  DIST_TRY_BECAUSE(own, "staging area");
  auto staging = (*group)->attach(*own);
  DIST_TRY_BECAUSE(staging, "staging area");
  return std::unique_ptr<HostAllReduce>(new HostAllReduce(*std::move(group), *std::move(staging)));
}

HostAllReduce::HostAllReduce(std::unique_ptr<HostGroup> group, Regions staging)
    : group_(std::move(group)), staging_(std::move(staging)) {}

Result<std::span<std::byte>> HostAllReduce::allocate(Bytes bytes) {
  auto own = Mapping::map_shareable(bytes);
  DIST_TRY_BECAUSE(own, "shared memory");
  auto regions = group_->attach(*own);
  DIST_TRY_BECAUSE(regions, "shared memory");
  allocations_.push_back(*std::move(regions));
  return allocations_.back()[member()].bytes();
}

Status HostAllReduce::all_reduce(std::span<std::byte> data, DType dtype, Reduction reduction,
                                 std::string_view what) {
  DIST_ASSERT(data.size() % size_of(dtype) == 0, "all-reduce: not whole elements");
  if (members() == 1) return {};
  if (const Regions* regions = find(data)) return sweep(*regions, data, dtype, reduction, what);
  if (data.size() <= kSmallBytes) return at_once(data, dtype, reduction, what);
  return in_pieces(data, dtype, reduction, what);
}

const HostAllReduce::Regions* HostAllReduce::find(std::span<const std::byte> data) const {
  for (const Regions& regions : allocations_) {
    const auto own = regions[member()].bytes();
    if (data.data() >= own.data() && data.data() + data.size() <= own.data() + own.size()) {
      return &regions;
    }
  }
  return nullptr;
}

// The first round says that all data is there, the second that all of it is summed.
Status HostAllReduce::sweep(const Regions& regions, std::span<std::byte> data, DType dtype,
                            Reduction reduction, std::string_view what) {
  const auto offset = static_cast<std::uint64_t>(data.data() - regions[member()].bytes().data());
  DIST_TRY(group_->meet_again(what));
  const Range chunk =
      chunk_range({0, data.size() / size_of(dtype)}, group_->members(), group_->member());
  std::vector<std::span<std::byte>> outs(members());
  std::vector<std::span<const std::byte>> sources(members());
  for (std::size_t k = 0; k < members(); ++k) {
    const auto m = (static_cast<std::size_t>(first_summand(group_->member())) + k) % members();
    outs[k] = bytes_of_range(regions[m].bytes().subspan(offset, data.size()), chunk, dtype);
    sources[k] = outs[k];
  }
  reduce_in_order(outs, sources, dtype, reduction);
  return group_->meet_again(what);
}

std::span<std::byte> HostAllReduce::staging(std::size_t member, std::size_t slot) const {
  const auto all = staging_[member].bytes();
  return slot < 2 ? all.subspan(slot * kSmallBytes, kSmallBytes)
                  : all.subspan(2 * kSmallBytes + (slot - 2) * kPieceBytes, kPieceBytes);
}

// One round: everybody reads everybody's data. A slot is written again two calls later; by then all
// have come to the round in between, and have read it.
Status HostAllReduce::at_once(std::span<std::byte> data, DType dtype, Reduction reduction,
                              std::string_view what) {
  const auto slot = static_cast<std::size_t>(small_calls_++ % 2);
  copy(data, staging(member(), slot));
  DIST_TRY(group_->meet_again(what));
  std::vector<std::span<const std::byte>> sources(members());
  for (int c = 0; c < group_->members(); ++c) {
    const Range chunk = chunk_range({0, data.size() / size_of(dtype)}, group_->members(), c);
    for (std::size_t k = 0; k < members(); ++k) {
      const auto m = (static_cast<std::size_t>(first_summand(c)) + k) % members();
      sources[k] = bytes_of_range(staging(m, slot), chunk, dtype);
    }
    const std::array<std::span<std::byte>, 1> out = {bytes_of_range(data, chunk, dtype)};
    reduce_in_order(out, sources, dtype, reduction);
  }
  return {};
}

// A piece is copied in (but for the own chunk), summed by the owners of its chunks, copied out. The
// next piece goes in while the others still sum. A slot is written again two pieces later, after
// the first round of the piece in between: by then all have copied it out.
Status HostAllReduce::in_pieces(std::span<std::byte> data, DType dtype, Reduction reduction,
                                std::string_view what) {
  const auto piece_at = [&](std::uint64_t begin) {
    return data.subspan(begin, std::min<std::uint64_t>(kPieceBytes, data.size() - begin));
  };
  const auto chunk_of = [&](std::span<std::byte> piece, std::size_t m) {
    return chunk_range({0, piece.size() / size_of(dtype)}, group_->members(), static_cast<int>(m));
  };
  const auto slot_of = [](std::uint64_t piece) { return 2 + static_cast<std::size_t>(piece % 2); };
  const auto copy_in = [&](std::span<std::byte> piece, std::size_t slot) {
    for (std::size_t m = 0; m < members(); ++m) {
      if (m == member()) continue;
      const Range chunk = chunk_of(piece, m);
      copy(bytes_of_range(piece, chunk, dtype),
           bytes_of_range(staging(member(), slot), chunk, dtype));
    }
  };
  copy_in(piece_at(0), slot_of(pieces_));
  for (std::uint64_t begin = 0; begin < data.size(); begin += kPieceBytes) {
    const auto piece = piece_at(begin);
    const auto slot = slot_of(pieces_++);
    DIST_TRY(group_->meet_again(what));
    reduce_own_chunk(piece, chunk_of(piece, member()), slot, dtype, reduction);
    const auto reduced = group_->arrive();
    if (begin + kPieceBytes < data.size()) copy_in(piece_at(begin + kPieceBytes), slot_of(pieces_));
    DIST_TRY(group_->wait(reduced, what));
    for (std::size_t m = 0; m < members(); ++m) {
      if (m == member()) continue;
      const Range chunk = chunk_of(piece, m);
      copy(bytes_of_range(staging(m, slot), chunk, dtype), bytes_of_range(piece, chunk, dtype));
    }
  }
  return {};
}

void HostAllReduce::reduce_own_chunk(std::span<std::byte> piece, Range chunk, std::size_t slot,
                                     DType dtype, Reduction reduction) {
  const auto own = bytes_of_range(piece, chunk, dtype);
  std::vector<std::span<const std::byte>> sources(members());
  for (std::size_t k = 0; k < members(); ++k) {
    const auto m = (static_cast<std::size_t>(first_summand(group_->member())) + k) % members();
    sources[k] = m == member() ? own : bytes_of_range(staging(m, slot), chunk, dtype);
  }
  const std::array<std::span<std::byte>, 2> outs = {
      own, bytes_of_range(staging(member(), slot), chunk, dtype)};
  reduce_in_order(outs, sources, dtype, reduction);
}

}  // namespace dist::allreduce
