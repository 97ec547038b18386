// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_peers.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <functional>
#include <utility>

#include "allreduce/host_arena.h"

namespace dist::allreduce {
namespace {

using SumWords = std::function<Status(std::span<std::uint64_t>)>;

using AddressWords = std::array<std::uint64_t, sizeof(DeviceAddress) / sizeof(std::uint64_t)>;

// One member's failure is everybody's, and it is told by everybody.
Status agree(const SumWords& sum_words, const std::vector<Rank>& members, int member,
             const Status& mine) {
  std::vector<std::uint64_t> failed(members.size(), 0);
  failed[static_cast<std::size_t>(member)] = mine.ok() ? 0 : 1;
  DIST_TRY(sum_words(failed));
  DIST_TRY(mine);
  for (std::size_t m = 0; m < members.size(); ++m) {
    if (failed[m] == 0) continue;
    return Status::unavailable(
        fmt::format("rank {} cannot reach, or show, memory on a GPU", members[m]));
  }
  return {};
}

// Every member shows its memory, and all others attach it; the own place stays empty.
Result<std::vector<DeviceMemory>> attach_all(Device& device, const DeviceMemory& own,
                                             const SumWords& sum_words,
                                             const std::vector<Rank>& members, int member) {
  const auto shown = members.size() > 1 ? device.address(own) : Result(DeviceAddress());
  std::vector<AddressWords> addresses(members.size());
  if (shown.ok()) {
    addresses[static_cast<std::size_t>(member)] = std::bit_cast<AddressWords>(*shown);
  }
  DIST_TRY(sum_words({addresses.front().data(), addresses.size() * AddressWords().size()}));
  Status outcome = shown.status();
  std::vector<DeviceMemory> all(members.size());
  for (std::size_t m = 0; m < members.size() && outcome.ok(); ++m) {
    if (m == static_cast<std::size_t>(member)) continue;
    const auto address = std::bit_cast<DeviceAddress>(addresses[m]);
    if (address.bytes == 0) continue;  // it will tell its reason
    auto attached = device.attach(address);
    outcome = attached.status().because(fmt::format("memory of rank {}", members[m]));
    if (attached.ok()) all[m] = *std::move(attached);
  }
  DIST_TRY(agree(sum_words, members, member, outcome));
  return all;
}

}  // namespace

Result<std::unique_ptr<DevicePeers>> DevicePeers::meet(const DeviceExchangeContext& context,
                                                       const std::vector<Rank>& members) {
  auto group = meet_members(context.progress, context.trace, context.options, members);
  DIST_TRY(group);
  const auto sum_words = sum_among(context.progress, context.trace, context.options, members);
  const int member = (*group)->member();
  auto gradients =
      attach_all(context.device, context.arena.device_gradients(), sum_words, members, member);
  DIST_TRY_BECAUSE(gradients, "gradients");
  auto parameters =
      attach_all(context.device, context.arena.device_parameters(), sum_words, members, member);
  DIST_TRY_BECAUSE(parameters, "parameters");
  auto squares = HostNumbers::meet(**group, context.updater.squares().size());
  DIST_TRY_BECAUSE(squares, "norms");
  return std::unique_ptr<DevicePeers>(new DevicePeers(context.arena, *std::move(group),
                                                      *std::move(gradients), *std::move(parameters),
                                                      *std::move(squares)));
}

DevicePeers::DevicePeers(Arena& arena, std::unique_ptr<HostGroup> group,
                         std::vector<DeviceMemory> gradients, std::vector<DeviceMemory> parameters,
                         HostNumbers squares)
    : arena_(arena),
      group_(std::move(group)),
      gradients_(std::move(gradients)),
      parameters_(std::move(parameters)),
      squares_(std::move(squares)) {}

std::span<std::byte> DevicePeers::gradients(int member, Range range) const {
  return member == group_->member() ? arena_.gradients(range) : part(gradients_, member, range);
}

std::span<std::byte> DevicePeers::parameters(int member, Range range) const {
  return member == group_->member() ? arena_.parameters(range) : part(parameters_, member, range);
}

void DevicePeers::let_go() {
  gradients_.clear();
  parameters_.clear();
}

Range DevicePeers::chunk(Range range, int member) const {
  return chunk_range(range, members(), member);
}

std::span<std::byte> DevicePeers::part(const std::vector<DeviceMemory>& all, int member,
                                       Range range) const {
  const auto size = size_of(arena_.dtype());
  return all[static_cast<std::size_t>(member)].bytes().subspan(range.begin * size,
                                                               range.elems() * size);
}

}  // namespace dist::allreduce
