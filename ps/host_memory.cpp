// SPDX-License-Identifier: Apache-2.0
#include "ps/host_memory.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "libdist/host/word_sum.h"

namespace dist::ps {

Result<std::unique_ptr<HostMemory>> HostMemory::meet(Progress& progress, const Options& options,
                                                     Arena& arena, bool wanted,
                                                     bool share_parameters,
                                                     std::uint64_t layout_hash) {
  const auto ranks = static_cast<std::size_t>(options.ranks);
  std::vector<std::uint64_t> hashes(ranks, 0);
  // Never 0: that is what a rank says that does not want it.
  const std::uint64_t own = layout_hash << 1 | 1;
  hashes[static_cast<std::size_t>(options.rank)] = wanted ? own : 0;
  const auto sum_words = [&progress](std::span<std::uint64_t> words) {
    return progress.run(make_word_sum(words, "parameter server: meeting of all ranks"));
  };
  DIST_TRY(sum_words(hashes));
  if (std::any_of(hashes.begin(), hashes.end(),
                  [&](auto hash) { return hash != hashes.front(); }) ||
      hashes.front() == 0) {
    return Status::unavailable("not all ranks want it, with one layout");
  }
  auto group = HostGroup::meet({.member = options.rank,
                                .members = options.ranks,
                                .timeout = options.timeout,
                                .sum_words = sum_words,
                                .failure = [&progress] { return progress.failure(); }});
  DIST_TRY(group);
  std::unique_ptr<HostMemory> memory(new HostMemory(arena, *std::move(group)));
  DIST_TRY(memory->attach(share_parameters));
  return memory;
}

Status HostMemory::attach(bool share_parameters) {
  auto gradients = group_->attach(arena_.gradient_memory());
  DIST_TRY_BECAUSE(gradients, "gradients");
  gradients_ = *std::move(gradients);
  Mapping& own = arena_.parameter_memory();
  if (!share_parameters) {
    auto parameters = group_->attach(own);
    DIST_TRY_BECAUSE(parameters, "parameters");
    parameters_ = *std::move(parameters);
    return {};
  }
  auto shared = group_->share(Bytes(own.bytes().size()));
  DIST_TRY_BECAUSE(shared, "parameters for all");
  if (group_->member() == 0) std::ranges::copy(own.bytes(), shared->bytes().begin());
  DIST_TRY_BECAUSE(own.show(*shared), "parameters for all");
  shows_shared_ = true;
  shared_ = *std::move(shared);
  return group_->meet_again("parameter server: parameters of the first rank");
}

Status HostMemory::give_back_parameters() {
  if (!std::exchange(shows_shared_, false)) return {};
  return arena_.parameter_memory().show_own();
}

std::span<std::byte> HostMemory::part(const Mapping& memory, Range range) const {
  const auto elem_bytes = size_of(arena_.dtype());
  return memory.bytes().subspan(range.begin * elem_bytes, range.elems() * elem_bytes);
}

}  // namespace dist::ps
