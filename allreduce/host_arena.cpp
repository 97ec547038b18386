// SPDX-License-Identifier: Apache-2.0
#include "allreduce/host_arena.h"

#include <algorithm>

#include "allreduce/all_reduce.h"
#include "libdist/check.h"
#include "libdist/plan.h"

namespace dist::allreduce {

Result<std::unique_ptr<HostArena>> HostArena::meet(const ExchangeContext& context,
                                                   std::vector<Rank> members) {
  const auto own = std::find(members.begin(), members.end(), context.options.rank);
  DIST_ASSERT(own != members.end(), "host arena: not among its members");
  AllReduceOptions words;
  words.dtype = DType::u64;
  words.rank = static_cast<Rank>(own - members.begin());
  words.ranks = static_cast<int>(members.size());
  words.label = "ring: meeting of the ranks of a host";
  words.members = std::make_shared<const std::vector<Rank>>(std::move(members));
  Progress& progress = context.progress;
  Trace& trace = context.trace;
  auto group =
      HostGroup::meet({.member = words.rank,
                       .members = words.ranks,
                       .ranks = *words.members,
                       .timeout = context.options.timeout,
                       .sum_words =
                           [&progress, &trace, words](std::span<std::uint64_t> data) {
                             auto options = words;
                             options.data = std::as_writable_bytes(data);
                             return progress.run(make_ring_all_reduce(std::move(options), trace));
                           },
                       .failure = [&progress] { return progress.failure(); }});
  DIST_TRY(group);
  auto gradients = (*group)->attach(context.arena.gradient_memory());
  DIST_TRY_BECAUSE(gradients, "gradients");
  auto parameters = (*group)->attach(context.arena.parameter_memory());
  DIST_TRY_BECAUSE(parameters, "parameters");
  std::vector<Mapping> squares;
  if (const auto count = context.updater.square_count(); count > 0) {
    auto own_squares = Mapping::map_shareable(Bytes(count * sizeof(double)));
    DIST_TRY_BECAUSE(own_squares, "norms");
    auto all = (*group)->attach(*own_squares);
    DIST_TRY_BECAUSE(all, "norms");
    squares = *std::move(all);
  }
  return std::unique_ptr<HostArena>(new HostArena(context.arena, *std::move(group),
                                                  *std::move(gradients), *std::move(parameters),
                                                  std::move(squares)));
}

HostArena::HostArena(Arena& arena, std::unique_ptr<HostGroup> group, std::vector<Mapping> gradients,
                     std::vector<Mapping> parameters, std::vector<Mapping> squares)
    : arena_(arena),
      group_(std::move(group)),
      gradients_(std::move(gradients)),
      parameters_(std::move(parameters)),
      squares_(std::move(squares)) {}

Status HostArena::take_parameters(bool share) {
  DIST_TRY(group_->meet_again("ring: parameters of the first rank"));
  if (group_->member() != 0) {
    if (share) {
      DIST_TRY_BECAUSE(arena_.parameter_memory().show(parameters_.front()), "ring: begin");
    } else {
      const auto theirs = parameters_.front().bytes();
      std::copy(theirs.begin(), theirs.end(), arena_.parameter_memory().bytes().begin());
    }
  }
  return group_->meet_again("ring: begin");
}

Status HostArena::give_back_parameters() {
  DIST_TRY(group_->meet_again("ring: end"));
  DIST_TRY_BECAUSE(arena_.parameter_memory().show_own(), "ring: end");
  return group_->meet_again("ring: end");
}

Range HostArena::own_chunk(Range range) const {
  return chunk_range(range, group_->members(), group_->member());
}

std::span<std::byte> HostArena::gradients_of(std::size_t summand, Range range) const {
  const auto first = static_cast<std::size_t>(first_summand(group_->member()));
  const auto size = size_of(arena_.dtype());
  return gradients_[(first + summand) % members()].bytes().subspan(range.begin * size,
                                                                   range.elems() * size);
}

void HostArena::copy_chunks_of_others(Range range) const {
  const auto size = size_of(arena_.dtype());
  for (std::size_t m = 0; m < members(); ++m) {
    if (m == static_cast<std::size_t>(group_->member())) continue;
    const Range chunk = chunk_range(range, group_->members(), static_cast<int>(m));
    const auto theirs = gradients_[m].bytes().subspan(chunk.begin * size, chunk.elems() * size);
    std::copy(theirs.begin(), theirs.end(), arena_.gradients(chunk).begin());
  }
}

Status HostArena::sum_squares(std::span<double> squares) {
  const auto own = std::as_bytes(squares);
  const auto member = static_cast<std::size_t>(group_->member());
  std::copy(own.begin(), own.end(), squares_[member].bytes().begin());
  DIST_TRY(group_->meet_again("ring: wait for norms"));
  std::fill(squares.begin(), squares.end(), 0);
  for (const Mapping& of_member : squares_) {
    const auto* theirs = reinterpret_cast<const double*>(of_member.bytes().data());
    for (std::size_t i = 0; i < squares.size(); ++i) squares[i] += theirs[i];
  }
  return {};
}

Bytes HostArena::memory_saved(const Updater& updater) const {
  const auto share_of_others = [&](std::uint64_t bytes) { return bytes - bytes / members(); };
  return Bytes(share_of_others(arena_.parameter_memory().bytes().size()) +
               share_of_others(updater.state_bytes().value));
}

Bytes HostArena::gradients_read_by_others(const std::vector<Bucket>& buckets) const {
  Elems elems;
  for (const Bucket& bucket : buckets) {
    elems += Elems(bucket.range.elems() - own_chunk(bucket.range).elems());
  }
  return bytes_of(elems, arena_.dtype());
}

}  // namespace dist::allreduce
