// SPDX-License-Identifier: Apache-2.0
#include "allreduce/group.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "allreduce/all_reduce.h"
#include "allreduce/choice.h"
#include "allreduce/host_all_reduce.h"
#include "libdist/check.h"
#include "libdist/hash.h"
#include "libdist/memory/mapping.h"
#include "libdist/operation_order.h"

namespace dist::allreduce {
namespace {

// The agreement must work even where segment sizes differ.
constexpr std::uint64_t kAgreementSegmentBytes = 4096;
constexpr std::size_t kMostNamedMembers = 8;
constexpr std::size_t kCollectives = 6;

using Members = std::shared_ptr<const std::vector<Rank>>;

// A barrier is the sum of one byte that belongs to the task.
class Barrier final : public Task {
 public:
  Barrier(AllReduceOptions options, Trace& trace) {
    options.data = token_;
    options.dtype = DType::u8;
    task_ = make_all_reduce(Algorithm::doubling, std::move(options), trace);
  }
  Result<Advance> advance(Transport& transport) override { return task_->advance(transport); }
  std::string waits_for() const override { return task_->waits_for(); }

 private:
  std::array<std::byte, 1> token_{};
  std::unique_ptr<Task> task_;
};

std::string prefix_of(const std::vector<Rank>& members, const World& world) {
  if (static_cast<int>(members.size()) == world.ranks()) return {};
  if (members.size() > kMostNamedMembers) {
    return fmt::format("group of {} ranks from {}: ", members.size(), members.front());
  }
  return fmt::format("group of ranks {}: ", fmt::join(members, ", "));
}

std::array<std::string, kCollectives> labels_of(const std::vector<Rank>& members,
                                                const World& world) {
  std::array<std::string, kCollectives> labels;
  for (std::size_t c = 0; c < kCollectives; ++c) {
    labels[c] = prefix_of(members, world) + std::string(name_of(static_cast<Collective>(c)));
  }
  return labels;
}

struct Setup {
  std::vector<Rank> members;
  std::optional<Algorithm> forced;
  bool sweep_allowed = false;
  bool sweep_forced = false;
  ChoiceTable table;
};

class PlannedGroup final : public Group {
 public:
  PlannedGroup(World& world, Setup setup)
      : progress_(world.progress()),
        trace_(world.trace()),
        order_(world.operation_order()),
        options_(world.options()),
        setup_(std::move(setup)),
        members_(std::make_shared<const std::vector<Rank>>(setup_.members)),
        peers_(peers_of(setup_.members, world.rank())),
        rank_(static_cast<Rank>(std::find(members_->begin(), members_->end(), world.rank()) -
                                members_->begin())),
        labels_(labels_of(setup_.members, world)),
        native_possible_(native_available(progress_.transport()) && !options_.deterministic &&
                         is_whole_world(setup_.members, world.ranks())) {}

  Rank rank() const override { return rank_; }
  int ranks() const override { return static_cast<int>(members_->size()); }
  Rank world_rank(Rank member) const override {
    DIST_ASSERT(member >= 0 && member < ranks(), "no such member of the group");
    return (*members_)[static_cast<std::size_t>(member)];
  }
  std::string_view algorithm(Bytes bytes) const override {
    return host_ ? "sweep" : name_of(chosen(bytes, DType::f32));
  }

  // Once, before anything else; collective.
  Status meet() {
    if (ranks() == 1) return {};
    DIST_TRY(agree());
    if (!setup_.sweep_allowed) return {};
    auto host = HostAllReduce::meet(
        {.member = rank_,
         .members = ranks(),
         .timeout = options_.timeout,
         .sum_words = [this](std::span<std::uint64_t> words) { return sum_words(words); },
         .failure = [this] { return progress_.failure(); }});
    if (host.ok()) {
      host_ = *std::move(host);
    } else if (setup_.sweep_forced || host.status().code() != ErrorCode::unavailable) {
      return host.status().because("algorithm sweep");
    }
    return {};
  }

  Result<std::span<std::byte>> allocate(Bytes bytes) override {
    if (host_) return host_->allocate(bytes);
    auto mapping = Mapping::map(bytes);
    DIST_TRY(mapping);
    memory_.push_back(*std::move(mapping));
    return memory_.back().bytes();
  }

 protected:
  Status run(const Call& call) override {
    DIST_TRY(check(call));
    if (ranks() == 1) return progress_.failure();
    if (host_ && call.collective == Collective::all_reduce) {
      return on_host(host_->all_reduce(call.data, call.dtype, call.reduction, label(call)));
    }
    if (host_ && call.collective == Collective::barrier) {
      return on_host(host_->group().meet_again(label(call)));
    }
    return order_.run(progress_, make_task(call), peers_);
  }

  Work start(const Call& call) override {
    if (auto wrong = check(call); !wrong.ok()) return Work(std::move(wrong));
    return Work(order_.submit(progress_, make_task(call), peers_), label(call));
  }

 private:
  static Members peers_of(std::vector<Rank> members, Rank own) {
    std::erase(members, own);
    std::sort(members.begin(), members.end());
    return std::make_shared<const std::vector<Rank>>(std::move(members));
  }

  static bool is_whole_world(const std::vector<Rank>& members, int ranks) {
    return static_cast<int>(members.size()) == ranks &&
           std::is_sorted(members.begin(), members.end());
  }

  const std::string& label(const Call& call) const {
    return labels_[static_cast<std::size_t>(call.collective)];
  }

  Status check(const Call& call) const {
    const auto size = size_of(call.dtype);
    if (call.data.size() % size != 0) {
      return Status::invalid_argument(fmt::format("{}: {} bytes are no whole number of {}",
                                                  label(call), call.data.size(),
                                                  name_of(call.dtype)));
    }
    if (reinterpret_cast<std::uintptr_t>(call.data.data()) % size != 0) {
      return Status::invalid_argument(fmt::format("{}: the data does not begin on a boundary of {}",
                                                  label(call), name_of(call.dtype)));
    }
    if (call.root < 0 || call.root >= ranks()) {
      return Status::invalid_argument(fmt::format(
          "{}: root {} is no member; the group has {} ranks", label(call), call.root, ranks()));
    }
    return {};
  }

  // A member that is lost in memory is lost altogether: nothing may wait for it over the transport.
  Status on_host(Status outcome) {
    if (!outcome.ok()) progress_.cancel(outcome);
    return outcome;
  }

  Algorithm chosen(Bytes bytes, DType dtype) const {
    const bool native_fits = native_possible_ && dtype != DType::f16 && dtype != DType::bf16;
    if (setup_.forced && (*setup_.forced != Algorithm::native || native_fits)) {
      return *setup_.forced;
    }
    return choose(setup_.table, ranks(), bytes, progress_.transport().name(), native_fits);
  }

  // Short messages, for which rounds count, go by trees.
  Shape shape(Bytes bytes) const {
    const auto algorithm = chosen(bytes, DType::f16);  // without native
    return algorithm == Algorithm::doubling || algorithm == Algorithm::tree ? Shape::tree
                                                                            : Shape::chain;
  }

  AllReduceOptions task_options(std::span<std::byte> data, DType dtype) const {
    AllReduceOptions options;
    options.data = data;
    options.dtype = dtype;
    options.rank = rank_;
    options.ranks = ranks();
    options.segment_bytes = options_.segment_bytes.value;
    options.members = members_;
    return options;
  }

  std::unique_ptr<Task> make_task(const Call& call) {
    auto options = task_options(call.data, call.dtype);
    options.reduction = call.reduction;
    options.label = label(call);
    const Bytes bytes(call.data.size());
    switch (call.collective) {
      case Collective::all_reduce:
        return make_all_reduce(chosen(bytes, call.dtype), std::move(options), trace_);
      case Collective::reduce_scatter:
        return make_reduce_scatter(std::move(options), trace_);
      case Collective::all_gather:
        return make_all_gather(std::move(options), trace_);
      case Collective::broadcast:
        return make_broadcast(shape(bytes), call.root, std::move(options), trace_);
      case Collective::reduce:
        return make_reduce(shape(bytes), call.root, std::move(options), trace_);
      case Collective::barrier:
        break;
    }
    return std::make_unique<Barrier>(std::move(options), trace_);
  }

  // Members that were given other lists or options would wait for messages that nobody sends. The
  // numbers for this one exchange are those of the world, so that it works all the same.
  Status agree() {
    const auto text =
        fmt::format("{}|{}|{}|{}|{}", fmt::join(*members_, ","),
                    setup_.forced ? name_of(*setup_.forced) : "auto", setup_.sweep_allowed,
                    options_.segment_bytes.value, print_choice_table(setup_.table));
    std::array<std::uint64_t, 2> hashes = {fnv1a(text), ~fnv1a(text)};
    auto sorted = *members_;
    std::sort(sorted.begin(), sorted.end());
    auto options = task_options(std::as_writable_bytes(std::span(hashes)), DType::u64);
    options.rank = static_cast<Rank>(std::find(sorted.begin(), sorted.end(), world_rank(rank_)) -
                                     sorted.begin());
    options.members = std::make_shared<const std::vector<Rank>>(std::move(sorted));
    options.segment_bytes = kAgreementSegmentBytes;
    options.reduction = Reduction::min;
    options.label = "meeting of a group's members";
    DIST_TRY(order_.run(progress_, make_all_reduce(Algorithm::doubling, std::move(options), trace_),
                        peers_));
    if (hashes[0] == ~hashes[1]) return {};
    return Status::invalid_argument(fmt::format(
        "the members disagree with ranks {}: give all of them the same list in the same "
        "order, the same algorithm, choice-table and segment-bytes",
        fmt::join(*members_, ", ")));
  }

  Status sum_words(std::span<std::uint64_t> words) {
    auto options = task_options(std::as_writable_bytes(words), DType::u64);
    options.label = "meeting of a group's ranks on one host";
    return order_.run(progress_, make_all_reduce(Algorithm::doubling, std::move(options), trace_),
                      peers_);
  }

  Progress& progress_;
  Trace& trace_;
  OperationOrder& order_;
  const Options options_;
  const Setup setup_;
  const Members members_;
  const Members peers_;  // ascending, without this rank
  const Rank rank_;
  const std::array<std::string, kCollectives> labels_;  // the heads of messages
  const bool native_possible_;
  std::unique_ptr<HostAllReduce> host_;  // none: over the transport
  std::vector<Mapping> memory_;          // allocated where there is no host_
};

Status check_members(const std::vector<Rank>& members, const World& world) {
  auto sorted = members;
  std::sort(sorted.begin(), sorted.end());
  const bool twice = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
  if (twice || sorted.front() < 0 || sorted.back() >= world.ranks()) {
    return Status::invalid_argument(
        fmt::format("group of ranks {}: every rank once, between 0 and {}",
                    fmt::join(members, ", "), world.ranks() - 1));
  }
  if (!std::binary_search(sorted.begin(), sorted.end(), world.rank())) {
    return Status::invalid_argument(
        fmt::format("group of ranks {}: rank {} makes it, but is no member",
                    fmt::join(members, ", "), world.rank()));
  }
  return {};
}

// Options may say that what is one host counts as several.
bool on_one_host(const World& world, const std::vector<Rank>& members) {
  const int ranks_per_host = world.options().ranks_per_host;
  if (ranks_per_host == 0) return world.options().one_host;
  return std::all_of(members.begin(), members.end(), [&](Rank rank) {
    return rank / ranks_per_host == members.front() / ranks_per_host;
  });
}

// In the memory of the host where that was asked for, or where it is known to be one; tcp within a
// host is used by those who want tcp. What only the strategy knows (hierarchical) counts as auto.
Status choose_algorithm(const World& world, const std::string& name, Setup* setup) {
  setup->sweep_forced = name == "sweep";
  setup->sweep_allowed =
      setup->sweep_forced ||
      (name == "auto" && on_one_host(world, setup->members) && world.transport_name() != "tcp");
  if (setup->sweep_forced || name == "auto" || name == "hierarchical") return {};
  setup->forced = algorithm_of(name);
  if (!setup->forced) {
    return Status::invalid_argument(
        fmt::format("algorithm '{}' is unknown; valid: auto, sweep, {}", name, algorithm_names()));
  }
  if (setup->forced == Algorithm::native && !native_available(world.progress().transport())) {
    return Status::unavailable(fmt::format(
        "algorithm native needs the transport mpi, this world uses {}", world.transport_name()));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Group>> make_group(World& world, std::vector<Rank> members,
                                          const std::string& algorithm) {
  if (members.empty()) {
    members.resize(static_cast<std::size_t>(world.ranks()));
    std::iota(members.begin(), members.end(), 0);
  }
  DIST_TRY(check_members(members, world));
  Setup setup;
  setup.members = std::move(members);
  DIST_TRY(choose_algorithm(world, algorithm, &setup));
  const std::string& path = world.options().choice_table;
  auto table = path.empty() ? default_choice_table() : read_choice_table(path);
  DIST_TRY(table);
  setup.table = *std::move(table);
  auto group = std::make_unique<PlannedGroup>(world, std::move(setup));
  DIST_TRY_BECAUSE(group->meet(), "make_group");
  return std::unique_ptr<Group>(std::move(group));
}

}  // namespace dist::allreduce
