// SPDX-License-Identifier: Apache-2.0
#include "libdist/host/host_group.h"

#include <fmt/format.h>

#include <atomic>
#include <new>
#include <optional>
#include <string>
#include <thread>

#include "libdist/check.h"
#include "libdist/host/hosts.h"
#include "libdist/transport/doorbell.h"
#include "libdist/transport/process_identity.h"

namespace dist {
namespace {

// While cores are free a look costs nobody anything; then others get their turn; then sleep, since
// a killed member rings nobody and must be looked for.
constexpr Duration kSpin = std::chrono::microseconds(50);
constexpr Duration kYield = std::chrono::microseconds(500);
constexpr Duration kCheckEvery = std::chrono::milliseconds(50);

// Every member's words, in the order of the members.
Result<std::vector<std::uint64_t>> gather(const HostGroupOptions& options,
                                          std::span<const std::uint64_t> own) {
  std::vector<std::uint64_t> all(own.size() * static_cast<std::size_t>(options.members));
  std::copy(own.begin(), own.end(),
            all.begin() + static_cast<std::ptrdiff_t>(own.size()) * options.member);
  DIST_TRY(options.sum_words(all));
  return all;
}

Rank rank_of(const HostGroupOptions& options, int member) {
  return options.ranks.empty() ? member : options.ranks[static_cast<std::size_t>(member)];
}

// All members hear of one's failure, so that all choose another way.
Status agree(const HostGroupOptions& options, const Status& own) {
  std::vector<std::uint64_t> failed(static_cast<std::size_t>(options.members));
  failed[static_cast<std::size_t>(options.member)] = own.ok() ? 0 : 1;
  DIST_TRY(options.sum_words(failed));
  DIST_TRY(own);
  for (int member = 0; member < options.members; ++member) {
    if (failed[static_cast<std::size_t>(member)] != 0) {
      return Status::unavailable(
          fmt::format("rank {} cannot reach the memory of the others", rank_of(options, member)));
    }
  }
  return {};
}

Result<std::vector<Mapping>> attach_all(const HostGroupOptions& options,
                                        const std::optional<MappingAddress>& own) {
  constexpr std::size_t kWords = 5;
  const auto this_host = host_id();
  std::vector<std::uint64_t> words(kWords);
  if (own) words = {this_host, own->process, own->file, own->inode, own->bytes};
  const auto all = gather(options, words);
  DIST_TRY(all);
  std::vector<Mapping> mappings;
  Status outcome;
  for (std::size_t m = 0; m < static_cast<std::size_t>(options.members) && outcome.ok(); ++m) {
    const std::uint64_t* theirs = all->data() + m * kWords;
    if (theirs[1] == 0) {  // brought nothing
      mappings.emplace_back();
      continue;
    }
    if (theirs[0] != this_host) {
      outcome = Status::unavailable("it is on another host");
    } else if (own && theirs[4] != own->bytes) {
      outcome = Status::invalid_argument(
          fmt::format("it brought {} bytes, this rank {}", theirs[4], own->bytes));
    } else {
      auto mapped = Mapping::attach({theirs[1], theirs[2], theirs[3], theirs[4]});
      if (mapped.ok()) {
        mappings.push_back(*std::move(mapped));
      } else {
        outcome = mapped.status();
      }
    }
    if (!outcome.ok()) {
      outcome =
          outcome.because(fmt::format("memory of rank {}", rank_of(options, static_cast<int>(m))));
    }
  }
  DIST_TRY(agree(options, outcome));
  return mappings;
}

}  // namespace

// In shared memory. Each line is written by its member alone.
struct alignas(64) HostGroup::Line {
  std::atomic<std::uint64_t> round{0};
  std::atomic<std::uint32_t> left{0};
  std::atomic<std::uint32_t> contributes{1};
  ProcessIdentity process;
  Doorbell doorbell;
};

Result<std::unique_ptr<HostGroup>> HostGroup::meet(const HostGroupOptions& options) {
  DIST_ASSERT(options.member >= 0 && options.member < options.members,
              "host group: no such member");
  const bool first = options.member == 0;
  Mapping lines;
  std::optional<MappingAddress> address;
  if (first) {
    auto made =
        Mapping::map_shareable(Bytes(sizeof(Line) * static_cast<std::size_t>(options.members)));
    DIST_TRY_BECAUSE(made, "host group");
    lines = *std::move(made);
    for (int member = 0; member < options.members; ++member) {
      new (lines.bytes().data() + sizeof(Line) * static_cast<std::size_t>(member)) Line;
    }
    address = lines.address();
  }
  auto all = attach_all(options, address);
  DIST_TRY_BECAUSE(all, "host group");
  std::unique_ptr<HostGroup> group(new HostGroup(options, std::move(all->front())));
  group->line(options.member).process = this_process();
  // After this nobody misses another one's line.
  DIST_TRY_BECAUSE(agree(options, {}), "host group");
  return group;
}

HostGroup::HostGroup(HostGroupOptions options, Mapping lines)
    : options_(std::move(options)),
      lines_(std::move(lines)),
      crowded_(static_cast<unsigned>(options_.members) > std::thread::hardware_concurrency()) {}

HostGroup::~HostGroup() {
  line(options_.member).left.store(1);
  for (int other = 0; other < options_.members; ++other) line(other).doorbell.ring();
}

HostGroup::Line& HostGroup::line(int member) const {
  return reinterpret_cast<Line*>(lines_.bytes().data())[member];
}

Result<std::vector<Mapping>> HostGroup::attach(const Mapping& own) {
  return attach_all(options_, own.address());
}

Result<Mapping> HostGroup::share(Bytes bytes) {
  Mapping own;
  std::optional<MappingAddress> address;
  if (member() == 0) {
    auto made = Mapping::map_shareable(bytes);
    if (made.ok()) {
      own = *std::move(made);
      address = own.address();
    }
  }
  auto all = attach_all(options_, address);
  DIST_TRY(all);
  if (!all->front().shareable()) return Status::resource("the first member has no memory to share");
  return std::move(all->front());
}

std::uint64_t HostGroup::arrive() {
  line(options_.member).round.store(++round_);
  for (int other = 0; other < options_.members; ++other) {
    if (other != options_.member) line(other).doorbell.ring();
  }
  return round_;
}

bool HostGroup::complete(std::uint64_t round) const {
  for (int other = 0; other < options_.members; ++other) {
    if (line(other).round.load() < round) return false;
  }
  return true;
}

void HostGroup::set_contributes(bool contributes) {
  line(options_.member).contributes.store(contributes ? 1 : 0);
}

int HostGroup::contributors() const {
  int count = 0;
  for (int member = 0; member < options_.members; ++member) {
    count += line(member).contributes.load() != 0 ? 1 : 0;
  }
  return count;
}

Status HostGroup::wait(std::uint64_t round, std::string_view what) {
  if (complete(round)) return {};
  const auto began = Clock::now();
  auto now = began;
  if (!crowded_) {
    for (; now - began < kSpin; now = Clock::now()) {
      if (complete(round)) return {};
      pause_briefly();
    }
  }
  for (; now - began < kYield; now = Clock::now()) {
    if (complete(round)) return {};
    std::this_thread::yield();
  }
  Doorbell& doorbell = line(options_.member).doorbell;
  for (;;) {
    const auto armed = doorbell.arm();
    if (complete(round)) {
      doorbell.disarm();
      return {};
    }
    DIST_TRY(check(round, began, what));
    doorbell.sleep(armed, kCheckEvery);
  }
}

// A member that is through with this round may leave at once: its round counts, then its absence.
Status HostGroup::check(std::uint64_t round, TimePoint began, std::string_view what) const {
  const auto waited = std::chrono::duration<double>(Clock::now() - began).count();
  if (options_.failure) DIST_TRY_BECAUSE(options_.failure(), what);
  for (int other = 0; other < options_.members; ++other) {
    const Line& theirs = line(other);
    if (theirs.round.load() >= round) continue;
    const bool left = theirs.left.load() != 0;
    if (left || !is_alive(theirs.process)) {
      if (theirs.round.load() >= round) continue;
      return Status::peer_lost(fmt::format("{}: rank {} waits for rank {} (pid {}), which {}", what,
                                           rank_of(options_, options_.member),
                                           rank_of(options_, other), theirs.process.pid,
                                           left ? "has left" : "is gone"));
    }
    if (waited > std::chrono::duration<double>(options_.timeout).count()) {
      return Status::timed_out(fmt::format("{}: rank {} waited {:.1f} s for rank {} (pid {})", what,
                                           rank_of(options_, options_.member), waited,
                                           rank_of(options_, other), theirs.process.pid));
    }
  }
  return {};
}

}  // namespace dist
