// SPDX-License-Identifier: Apache-2.0
// Several hosts. While the backward pass still runs, a bucket that is full on all ranks of a host
// is summed there, every rank its chunk, and goes on round a ring of the ranks at the same place of
// all hosts: as many flows between two hosts as a host has ranks, and every byte crosses a link
// once each way. Then every rank updates its chunk of the parameters that its host shares.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/exchange.h"
#include "allreduce/host_arena.h"
#include "libdist/check.h"
#include "libdist/memory/reduce.h"

namespace dist::allreduce {
namespace {

// Flags of a host ring no transport: they are looked at this often while somebody is late.
constexpr Duration kPoll = std::chrono::microseconds(100);
constexpr Duration kCheckEvery = std::chrono::milliseconds(50);

// One bucket's way: wait for the host, sum the own chunk into the own arena, ring between hosts.
class BucketTask final : public Task {
 public:
  /// `before`: the buckets whose rings must have ended before this one's begins.
  BucketTask(const HostArena& host, HostGroup& group, std::uint64_t round, Range bucket,
             AllReduceOptions options, std::vector<Ticket> before, Trace& trace)
      : host_(host),
        group_(group),
        round_(round),
        chunk_(host.own_chunk(bucket)),
        options_(std::move(options)),
        before_(std::move(before)),
        trace_(trace) {}

  Result<Advance> advance(Transport& transport) override {
    if (ring_) return ring_->advance(transport);
    if (summed_) return start_ring();
    const auto now = Clock::now();
    if (began_ == TimePoint()) began_ = checked_ = now;
    if (!group_.complete(round_)) {
      if (now - checked_ > kCheckEvery) {
        checked_ = now;
        DIST_TRY(group_.check(round_, began_, options_.label));
      }
      return Advance::idle;
    }
    sum();
    summed_ = true;
    return Advance::moved;
  }

  std::string waits_for() const override {
    if (ring_) return ring_->waits_for();
    return fmt::format("{}: {}", options_.label,
                       summed_ ? "the bucket before" : "gradients of the ranks of this host");
  }

  Duration poll_interval() const override { return ring_ ? ring_->poll_interval() : kPoll; }

 private:
  // Into the place of the own gradients, which nobody else reads in this chunk.
  void sum() {
    std::vector<std::span<std::byte>> gradients;
    host_.gradients(chunk_, &gradients);
    const std::vector<std::span<const std::byte>> sources(gradients.begin(), gradients.end());
    const std::array<std::span<std::byte>, 1> out = {options_.data};
    const TraceScope scope(trace_, Activity::reduce, options_.label, Bytes(options_.data.size()));
    reduce_in_order(out, sources, options_.dtype, Reduction::sum);
  }

  Result<Advance> start_ring() {
    const auto ended = [](const Ticket& ticket) { return ticket.finished(); };
    if (!std::all_of(before_.begin(), before_.end(), ended)) return Advance::idle;
    ring_ = make_ring_all_reduce(std::move(options_), trace_);
    return Advance::moved;
  }

  const HostArena& host_;
  HostGroup& group_;
  const std::uint64_t round_;
  const Range chunk_;
  AllReduceOptions options_;
  const std::vector<Ticket> before_;
  Trace& trace_;
  TimePoint began_;
  TimePoint checked_;
  bool summed_ = false;
  std::unique_ptr<Task> ring_;
};

class HierarchicalExchange final : public Exchange {
 public:
  HierarchicalExchange(const ExchangeContext& context, const Hosts& hosts,
                       std::unique_ptr<HostArena> host)
      : progress_(context.progress),
        trace_(context.trace),
        options_(context.options),
        arena_(context.arena),
        buckets_(context.buckets),
        updater_(context.updater),
        flow_(std::make_shared<const std::vector<Rank>>(
            hosts.at_place(hosts.place_of(options_.rank)))),
        host_number_(static_cast<Rank>(hosts.host_of(options_.rank))),
        host_(std::move(host)) {
    tickets_.reserve(buckets_.size());
  }

  // A step given up half-way: the others hear of it, and nothing touches the arena any more.
  ~HierarchicalExchange() override {
    if (std::all_of(tickets_.begin(), tickets_.end(),
                    [](const Ticket& ticket) { return ticket.finished(); })) {
      return;
    }
    progress_.cancel(Status::cancelled(
        fmt::format("ring: rank {} gave up a step before finish_step()", options_.rank)));
  }

  std::string_view algorithm() const override { return "hierarchical"; }

  // Between the first ranks of the hosts, then within each host.
  Status begin() override {
    if (host_->group().member() == 0) {
      const Range whole{0, arena_.elems().value};
      DIST_TRY(progress_.run(make_ring_broadcast(
          flow_options(arena_.parameters(whole), "broadcast of the parameters"), trace_)));
    }
    DIST_TRY(host_->take_parameters(true));
    bytes_sent_ = progress_.counters().sent;
    return {};
  }

  void start(std::size_t bucket) override {
    const Range range = buckets_[bucket].range;
    std::vector<Ticket> before;
    if (!tickets_.empty()) before.push_back(tickets_.back());
    tickets_.push_back(progress_.submit(std::make_unique<BucketTask>(
        *host_, host_->group(), host_->group().arrive(), range,
        flow_options(arena_.gradients(host_->own_chunk(range)), fmt::format("bucket {}", bucket)),
        std::move(before), trace_)));
  }

  Status finish(StepReport* report) override {
    // Until all ranks of the host have ended their backward passes, somebody may read parameters.
    DIST_TRY(wait(report, [&] { return host_->group().meet_again("ring: wait for gradients"); }));
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
      DIST_TRY(wait(report, [&] { return tickets_[b].wait(); }));
      report->communication_busy += tickets_[b].ended() - std::max(tickets_[b].started(), busy_);
      busy_ = tickets_[b].ended();
      update(host_->own_chunk(buckets_[b].range), report);
    }
    DIST_TRY(wait(report, [&] { return host_->group().meet_again("ring: wait for the update"); }));
    const auto sent = progress_.counters().sent;
    report->bytes_sent = sent - bytes_sent_ + bytes_read_by_others();
    bytes_sent_ = sent;
    report->memory_saved = host_->share_of_others(arena_.parameter_memory().bytes().size()) +
                           host_->share_of_others(updater_.state_bytes().value);
    tickets_.clear();
    return {};
  }

  // Nobody leaves while another rank of any host still exchanges.
  Status end() override {
    DIST_TRY(host_->give_back_parameters());
    float one = 1;
    return progress_.run(make_ring_all_reduce(
        flow_options(std::as_writable_bytes(std::span(&one, 1)), "end", DType::f32), trace_));
  }

 private:
  AllReduceOptions flow_options(std::span<std::byte> data, std::string_view what) const {
    return flow_options(data, what, arena_.dtype());
  }
  AllReduceOptions flow_options(std::span<std::byte> data, std::string_view what,
                                DType dtype) const {
    AllReduceOptions options;
    options.data = data;
    options.dtype = dtype;
    options.rank = host_number_;
    options.ranks = static_cast<int>(flow_->size());
    options.segment_bytes = options_.segment_bytes.value;
    options.label = fmt::format("ring: {}", what);
    options.members = flow_;
    return options;
  }

  template <typename Waiting>
  Status wait(StepReport* report, const Waiting& waiting) {
    const auto begin = Clock::now();
    Status outcome = waiting();
    const auto end = Clock::now();
    report->communication_exposed += end - begin;
    trace_.record(Activity::wait, "wait for gradients", begin, end);
    return outcome;
  }

  void update(Range chunk, StepReport* report) {
    const auto begin = Clock::now();
    updater_.apply(arena_.parameters(chunk), arena_.gradients(chunk), chunk.begin,
                   1.0 / options_.ranks);
    const auto end = Clock::now();
    report->update += end - begin;
    trace_.record(Activity::update, "update", begin, end,
                  bytes_of(Elems(chunk.elems()), arena_.dtype()));
  }

  Bytes bytes_read_by_others() const {
    std::uint64_t elems = 0;
    for (const Bucket& bucket : buckets_) {
      elems += bucket.range.elems() - host_->own_chunk(bucket.range).elems();
    }
    return bytes_of(Elems(elems), arena_.dtype());
  }

  Progress& progress_;
  Trace& trace_;
  const Options& options_;
  Arena& arena_;
  const std::vector<Bucket>& buckets_;
  Updater& updater_;
  const std::shared_ptr<const std::vector<Rank>> flow_;
  const Rank host_number_;
  std::unique_ptr<HostArena> host_;
  std::vector<Ticket> tickets_;  // of this step, one a bucket
  TimePoint busy_;
  Bytes bytes_sent_;
};

}  // namespace

Result<std::unique_ptr<Exchange>> make_hierarchical_exchange(const ExchangeContext& context,
                                                             const Hosts& hosts) {
  auto host = HostArena::meet(context, hosts.ranks_of[hosts.host_of(context.options.rank)]);
  DIST_TRY(host);
  return std::unique_ptr<Exchange>(
      std::make_unique<HierarchicalExchange>(context, hosts, *std::move(host)));
}

}  // namespace dist::allreduce
