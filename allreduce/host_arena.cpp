// SPDX-License-Identifier: Apache-2.0
#include "allreduce/host_arena.h"

#include <algorithm>

#include "allreduce/all_reduce.h"
#include "libdist/check.h"
#include "libdist/plan.h"

namespace dist::allreduce {

namespace {

// The number of this rank among the members.
int member_of(const Options& options, const std::vector<Rank>& members) {
  const auto own = std::find(members.begin(), members.end(), options.rank);
  DIST_ASSERT(own != members.end(), "host arena: not among its members");
  return static_cast<int>(own - members.begin());
}

}  // namespace

std::function<Status(std::span<std::uint64_t>)> sum_among(Progress& progress, Trace& trace,
                                                          const Options& options,
                                                          std::vector<Rank> members) {
  AllReduceOptions words;
  words.dtype = DType::u64;
  words.rank = member_of(options, members);
  words.ranks = static_cast<int>(members.size());
  words.label = "ring: meeting of the ranks of a host";
  words.members = std::make_shared<const std::vector<Rank>>(std::move(members));
  return [&progress, &trace, words](std::span<std::uint64_t> data) {
    auto sum = words;
    sum.data = std::as_writable_bytes(data);
    return progress.run(make_ring_all_reduce(std::move(sum), trace));
  };
}

Result<std::unique_ptr<HostGroup>> meet_members(Progress& progress, Trace& trace,
                                                const Options& options,
                                                const std::vector<Rank>& members) {
  return HostGroup::meet({.member = member_of(options, members),
                          .members = static_cast<int>(members.size()),
                          .ranks = members,
                          .timeout = options.timeout,
                          .sum_words = sum_among(progress, trace, options, members),
                          .failure = [&progress] { return progress.failure(); }});
}

Result<std::unique_ptr<HostArena>> HostArena::meet(const ExchangeContext& context,
                                                   const std::vector<Rank>& members) {
  auto group = meet_members(context.progress, context.trace, context.options, members);
  DIST_TRY(group);
  auto gradients = (*group)->attach(context.arena.gradient_memory());
  DIST_TRY_BECAUSE(gradients, "gradients");
  auto parameters = (*group)->attach(context.arena.parameter_memory());
  DIST_TRY_BECAUSE(parameters, "parameters");
  auto squares = HostNumbers::meet(**group, context.updater.square_count());
  DIST_TRY_BECAUSE(squares, "norms");
  return std::unique_ptr<HostArena>(new HostArena(context.arena, *std::move(group),
                                                  *std::move(gradients), *std::move(parameters),
                                                  *std::move(squares)));
}

HostArena::HostArena(Arena& arena, std::unique_ptr<HostGroup> group, std::vector<Mapping> gradients,
                     std::vector<Mapping> parameters, HostNumbers squares)
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
  return squares_.sum(squares, "ring: wait for norms");
}

Bytes HostArena::memory_saved(const Updater& updater) const {
  const Bytes parameters(arena_.parameter_memory().bytes().size());
  return saved_by_sharing(parameters, group_->members()) +
         saved_by_sharing(updater.state_bytes(), group_->members());
}

Bytes HostArena::gradients_read_by_others(const std::vector<Bucket>& buckets) const {
  Elems elems;
  for (const Bucket& bucket : buckets) {
    elems += Elems(bucket.range.elems() - own_chunk(bucket.range).elems());
  }
  return bytes_of(elems, arena_.dtype());
}

}  // namespace dist::allreduce
