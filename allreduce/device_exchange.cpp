// SPDX-License-Identifier: Apache-2.0
// Three streams a step: the arena's, on which the program computes; one for collectives, which
// follow the gradients they take; one for updates, which follow the sums and the end of the
// backward pass, up to which parameters are read. Events order them, and the arena's stream goes on
// after the last of it.
#include "allreduce/device_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "allreduce/device_timeline.h"
#include "allreduce/ring_plan.h"
#include "libdist/check.h"

namespace dist::allreduce {
namespace {

using Kind = DeviceOperation::Kind;

// Streams run dry at once after an abort, or not at all.
constexpr Duration kDrainGrace = std::chrono::seconds(10);

class DeviceExchange final : public Exchange {
 public:
  DeviceExchange(const DeviceExchangeContext& context, std::unique_ptr<DeviceGroup> group,
                 const DeviceExchangeOptions& options)
      : context_(context),
        options_(options),
        servers_(options.servers > 0 ? options.servers : context.options.ranks),
        group_(std::move(group)),
        timeline_(context.device),
        reduced_(context.buckets.size()),
        ready_(context.buckets.size()) {}

  // What is enqueued still uses the arena; what waits for other ranks ends with the group.
  ~DeviceExchange() override {
    group_.reset();
    const auto grace = std::min(kDrainGrace, context_.options.timeout);
    for (const Stream stream : {collectives_, updates_}) {
      (void)timeline_.wait_for(stream, grace);
    }
    release(&reduced_);
    release(&ready_);
  }

  Status prepare() {
    const auto stream = [&](Stream* made, StreamPriority priority) -> Status {
      const auto result = context_.device.make_stream(priority);
      DIST_TRY(result);
      *made = *result;
      return {};
    };
    DIST_TRY(stream(&collectives_, StreamPriority::high));
    DIST_TRY(stream(&updates_, StreamPriority::normal));
    auto words = context_.device.allocate(Bytes(sizeof(double)), MemoryKind::device);
    DIST_TRY(words);
    contributors_ = *std::move(words);
    DIST_TRY(timeline_.prepare());
    auto scratch = context_.device.allocate(bytes_of(scratch_elems(), dtype()), MemoryKind::device);
    DIST_TRY(scratch);
    scratch_ = *std::move(scratch);
    return {};
  }

  std::string_view algorithm() const override {
    if (options_.ring) return "ring over NCCL";
    switch (options_.placement) {
      case DevicePlacement::sharded:
        return "NCCL, sharded";
      case DevicePlacement::owners:
        return "NCCL, owners";
      case DevicePlacement::everywhere:
        break;
    }
    return "NCCL";
  }

  Status begin() override {
    const Range whole{0, context_.arena.elems().value};
    DIST_TRY(follow(collectives_, stream()));
    DIST_TRY(group_->enqueue(collectives_, broadcast(parameters(whole), 0),
                             "broadcast of the parameters"));
    DIST_TRY(follow(stream(), collectives_));
    return group_->wait();
  }

  void start(std::size_t bucket) override {
    if (status_.ok()) status_ = reduce(bucket);
  }

  Status await(std::size_t bucket, StepReport* report) override {
    return told(await_bucket(bucket, report));
  }

  Status finish(StepReport* report) override { return told(finish_step(report)); }

  void join() override { joined_ = true; }

  Status end() override { return group_->close(); }

  Range updated(Range bucket) const override {
    const Rank rank = context_.options.rank;
    switch (options_.placement) {
      case DevicePlacement::sharded:
        return device_chunk(bucket, context_.options.ranks, rank);
      case DevicePlacement::owners:
        return rank < servers_ ? device_chunk(bucket, servers_, rank)
                               : Range{bucket.begin, bucket.begin};
      case DevicePlacement::everywhere:
        break;
    }
    return bucket;
  }

  Range saved(Range bucket) const override {
    if (options_.placement != DevicePlacement::everywhere) return updated(bucket);
    return device_chunk(bucket, context_.options.ranks, context_.options.rank);
  }

 private:
  Stream stream() const { return context_.arena.stream(); }
  DType dtype() const { return context_.arena.dtype(); }
  Range range(std::size_t bucket) const { return context_.buckets[bucket].range; }
  std::span<std::byte> parameters(Range range) const { return context_.arena.parameters(range); }
  std::span<std::byte> gradients(Range range) const { return context_.arena.gradients(range); }
  const double* contributors() const {
    return reinterpret_cast<const double*>(contributors_.bytes().data());
  }
  std::span<std::byte> contributor_bytes() const {
    return contributors_.bytes().first(sizeof(double));
  }
  bool everywhere() const { return options_.placement == DevicePlacement::everywhere; }

  DeviceOperation broadcast(std::span<std::byte> data, Rank root) const {
    return {Kind::broadcast, data, dtype(), root};
  }

  // Work that comes on `later` comes after what is on `earlier` now.
  Status follow(Stream later, Stream earlier) {
    const auto mark = context_.device.record(earlier);
    DIST_TRY(mark);
    Status waits = context_.device.wait(later, *mark);
    context_.device.release_event(*mark);
    return waits;
  }

  // Others wait for this rank: they hear of it, at their deadlines at the latest.
  Status told(const Status& outcome) {
    if (outcome.ok() || !group_->failure().ok()) return outcome;
    group_->abort(outcome);
    return outcome;
  }

  Status reduce(std::size_t bucket) {
    DIST_TRY(follow(collectives_, stream()));
    std::vector<DeviceOperation> operations;
    if (bucket == 0) {
      // Its count of contributors is needed, and would be left out behind too many other steps.
      if (joined_) DIST_TRY(timeline_.wait([this] { return group_->failure(); }));
      DIST_TRY(timeline_.begin_step(collectives_));
      DIST_TRY(
          context_.device.fill(collectives_, DType::f64, contributor_bytes(), joined_ ? 0 : 1));
      operations.push_back({Kind::all_reduce, contributor_bytes(), DType::f64});
    }
    add_reduction(bucket, &operations);
    DIST_TRY(group_->enqueue(collectives_, operations, fmt::format("bucket {}", bucket)));
    if (options_.ring) DIST_TRY(walk_ring(bucket));
    return mark(&reduced_, bucket, collectives_);
  }

  void add_reduction(std::size_t bucket, std::vector<DeviceOperation>* operations) const {
    if (options_.ring) return;
    switch (options_.placement) {
      case DevicePlacement::everywhere:
        return operations->push_back({Kind::all_reduce, gradients(range(bucket)), dtype()});
      case DevicePlacement::sharded:
        return operations->push_back({Kind::reduce_scatter, gradients(range(bucket)), dtype()});
      case DevicePlacement::owners:
        for (Rank s = 0; s < servers_; ++s) {
          const auto chunk = gradients(device_chunk(range(bucket), servers_, s));
          operations->push_back({Kind::reduce, chunk, dtype(), s});
        }
    }
  }

  // The plan that the host's executor walks, one message each way a round.
  Status walk_ring(std::size_t bucket) {
    const Range whole = range(bucket);
    const auto part = [&](Range r) {
      return gradients({whole.begin + r.begin, whole.begin + r.end});
    };
    const Plan plan =
        ring_all_reduce_plan(context_.options.rank, context_.options.ranks, whole.elems());
    for (std::size_t k = 0; k < plan.rounds.size(); ++k) {
      const Round& round = plan.rounds[k];
      const auto own = part(round.receive);
      const bool copies = round.action == Action::copy;
      const auto arrives = copies ? own : scratch_.bytes().first(own.size());
      const std::array<DeviceOperation, 2> messages = {
          DeviceOperation{Kind::send, part(round.send), dtype(), round.to},
          DeviceOperation{Kind::receive, arrives, dtype(), round.from}};
      DIST_TRY(group_->enqueue(collectives_, messages,
                               fmt::format("bucket {}, round {} of the ring", bucket, k)));
      if (copies || own.empty()) continue;
      std::array<std::span<const std::byte>, 2> summands = {own, arrives};
      if (round.action == Action::reduce_received_first) std::swap(summands[0], summands[1]);
      const std::array<std::span<std::byte>, 1> sum = {own};
      DIST_TRY(context_.device.reduce(collectives_, sum, summands, dtype(), Reduction::sum));
    }
    return {};
  }

  // The longest message that is to be added to something.
  Elems scratch_elems() const {
    std::uint64_t most = 0;
    for (const Bucket& bucket : context_.buckets) {
      if (!options_.ring) break;
      const Plan plan =
          ring_all_reduce_plan(context_.options.rank, context_.options.ranks, bucket.range.elems());
      for (const Round& round : plan.rounds) {
        if (round.action != Action::copy) most = std::max(most, round.receive.elems());
      }
    }
    return Elems(most);
  }

  Status await_bucket(std::size_t bucket, StepReport* report) {
    DIST_TRY(end_backward(report));
    if (everywhere()) {
      DIST_TRY(settle(bucket));
    } else {
      // What goes to all leaves in the order of the buckets.
      for (std::size_t b = 0; b < context_.buckets.size(); ++b) DIST_TRY(settle(b));
    }
    return context_.device.wait(stream(), ready_[bucket]);
  }

  // The first that is asked for of a step: from here on parameters may change, in as far as the
  // sums are there.
  Status end_backward(StepReport* report) {
    DIST_TRY(status_);
    DIST_TRY(group_->failure());
    if (std::exchange(backward_ended_, true)) return {};
    DIST_TRY(timeline_.end_backward(stream()));
    DIST_TRY(follow(updates_, stream()));
    DIST_TRY(context_.device.wait(updates_, reduced_[0]));  // and the contributors with it
    if (!context_.updater.updates_parameters()) return {};
    DIST_TRY(context_.updater.begin_step(updates_, {.step = report->step}, contributors()));
    if (context_.updater.needs_norms()) DIST_TRY(measure());
    return context_.updater.settle(updates_);
  }

  // The squares of all sums, before the first update of the step.
  Status measure() {
    for (std::size_t b = 0; b < context_.buckets.size(); ++b) {
      DIST_TRY(context_.device.wait(updates_, reduced_[b]));
      const Range own = updated(range(b));
      DIST_TRY(context_.updater.add_squares(updates_, parameters(own), gradients(own), own.begin));
    }
    if (everywhere()) return {};
    DIST_TRY(follow(collectives_, updates_));
    const auto squares = std::as_writable_bytes(context_.updater.squares());
    DIST_TRY(group_->enqueue(collectives_, {Kind::all_reduce, squares, DType::f64}, "norms"));
    return follow(updates_, collectives_);
  }

  // Enqueues the update of a bucket, once a step, and what follows from it.
  Status settle(std::size_t bucket) {
    if (ready_[bucket].handle != nullptr) return {};
    DIST_TRY(context_.device.wait(updates_, reduced_[bucket]));
    const Range own = updated(range(bucket));
    if (context_.updater.updates_parameters()) {
      DIST_TRY(context_.updater.apply(updates_, parameters(own), gradients(own), own.begin));
    } else {
      DIST_TRY(context_.device.divide_by(updates_, gradients(own), contributors(), dtype()));
    }
    if (everywhere()) return mark(&ready_, bucket, updates_);
    DIST_TRY(follow(collectives_, updates_));
    DIST_TRY(group_->enqueue(collectives_, sharing(bucket),
                             fmt::format("parameters of bucket {}", bucket)));
    return mark(&ready_, bucket, collectives_);
  }

  std::vector<DeviceOperation> sharing(std::size_t bucket) const {
    if (options_.placement == DevicePlacement::sharded) {
      return {{Kind::all_gather, parameters(range(bucket)), dtype()}};
    }
    std::vector<DeviceOperation> operations;
    operations.reserve(static_cast<std::size_t>(servers_));
    for (Rank s = 0; s < servers_; ++s) {
      operations.push_back(broadcast(parameters(device_chunk(range(bucket), servers_, s)), s));
    }
    return operations;
  }

  Status finish_step(StepReport* report) {
    DIST_TRY(end_backward(report));
    for (std::size_t b = 0; b < context_.buckets.size(); ++b) {
      DIST_TRY(settle(b));
      DIST_TRY(context_.device.wait(stream(), ready_[b]));
    }
    DIST_TRY(timeline_.end_step(collectives_, stream(), contributor_bytes()));
    if (joined_) DIST_TRY(timeline_.wait([this] { return group_->failure(); }));
    const auto known = timeline_.last();
    DIST_TRY(known);
    report->contributors = known->contributors.value_or(context_.options.ranks);
    report->communication_busy += known->busy;
    report->communication_exposed += known->exposed;
    report->bytes_sent += bytes_sent();
    release(&reduced_);
    release(&ready_);
    backward_ended_ = false;
    return {};
  }

  // On average over the ranks, if every rank sends no element oftener than it must; what NCCL
  // really sends it does not tell.
  Bytes bytes_sent() const {
    const auto ranks = static_cast<std::uint64_t>(context_.options.ranks);
    return Bytes(bytes_of(context_.arena.elems(), dtype()).value / ranks * 2 * (ranks - 1));
  }

  Status mark(std::vector<Event>* events, std::size_t bucket, Stream stream) {
    const auto event = context_.device.record(stream);
    DIST_TRY(event);
    (*events)[bucket] = *event;
    return {};
  }

  void release(std::vector<Event>* events) {
    for (Event& event : *events) {
      if (event.handle != nullptr) context_.device.release_event(event);
      event = {};
    }
  }

  const DeviceExchangeContext context_;
  const DeviceExchangeOptions options_;
  const int servers_;
  std::unique_ptr<DeviceGroup> group_;
  Stream collectives_;
  Stream updates_;
  DeviceMemory contributors_;  // one double: how many there are in this step
  DeviceMemory scratch_;       // of the ring
  DeviceTimeline timeline_;
  std::vector<Event> reduced_;  // by bucket, of this step: its sum is there
  std::vector<Event> ready_;    // its parameters are those of the next step
  bool backward_ended_ = false;
  bool joined_ = false;
  Status status_;  // of start()
};

}  // namespace

Result<std::unique_ptr<Exchange>> make_device_exchange(const DeviceExchangeContext& context,
                                                       std::unique_ptr<DeviceGroup> group,
                                                       const DeviceExchangeOptions& options) {
  DIST_ASSERT(!options.ring || options.placement == DevicePlacement::everywhere,
              "the ring sums everywhere");
  DIST_ASSERT(options.servers <= context.options.ranks, "more servers than ranks");
  if (options.placement != DevicePlacement::everywhere && !context.updater.updates_parameters()) {
    return Status::invalid_argument(
        "nccl: the rule mean-gradient wants all of the mean on every rank; choose the strategy "
        "ring without shard-optimizer, or an update rule");
  }
  auto made = std::make_unique<DeviceExchange>(context, std::move(group), options);
  DIST_TRY_BECAUSE(made->prepare(), "nccl");
  return std::unique_ptr<Exchange>(std::move(made));
}

}  // namespace dist::allreduce
