// SPDX-License-Identifier: Apache-2.0
// Several hosts. While the backward pass still runs, a bucket that is full on all ranks of a host
// is summed there, every rank its chunk, and goes on round a ring of the ranks at the same place of
// all hosts: as many flows between two hosts as a host has ranks, and every byte crosses a link
// once each way. Then every rank updates its chunk of the parameters that its host shares.
#include <fmt/format.h>

#include <array>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/contributors.h"
#include "allreduce/exchange.h"
#include "allreduce/host_arena.h"
#include "allreduce/step_tasks.h"
#include "libdist/memory/reduce.h"
#include "libdist/plan.h"

namespace dist::allreduce {
namespace {

// Flags of a host ring no transport: they are looked at this often while somebody is late.
constexpr Duration kPoll = std::chrono::microseconds(100);
constexpr Duration kCheckEvery = std::chrono::milliseconds(50);

// Waits for the ranks of the host, then sums the own chunk of a bucket into the own arena, where
// nobody else reads that chunk.
class SumTask final : public Task {
 public:
  /// `sum` is the ring's task that follows: where the sum goes and what it is called.
  /// `contributors`, unless null, receives how many of the host's ranks contribute.
  SumTask(HostArena& host, Range chunk, const AllReduceOptions& sum, std::uint64_t* contributors,
          Trace& trace)
      : host_(host),
        chunk_(chunk),
        round_(host.group().arrive()),
        sum_(sum),
        contributors_(contributors),
        trace_(trace) {}

  Result<Advance> advance(Transport&) override {
    const auto now = Clock::now();
    if (began_ == TimePoint()) began_ = checked_ = now;
    if (!host_.group().complete(round_)) {
      if (now - checked_ > kCheckEvery) {
        checked_ = now;
        DIST_TRY(host_.group().check(round_, began_, sum_.label));
      }
      return Advance::idle;
    }
    if (contributors_ != nullptr) {
      *contributors_ = static_cast<std::uint64_t>(host_.group().contributors());
    }
    std::vector<std::span<const std::byte>> sources;
    host_.gradients(chunk_, &sources);
    const std::array<std::span<std::byte>, 1> out = {sum_.data};
    const TraceScope scope(trace_, Activity::reduce, sum_.label, Bytes(sum_.data.size()));
    reduce_in_order(out, sources, sum_.dtype, Reduction::sum);
    return Advance::finished;
  }

  std::string waits_for() const override {
    return fmt::format("{}: gradients of the ranks of this host", sum_.label);
  }

  Duration poll_interval() const override { return kPoll; }

 private:
  HostArena& host_;
  const Range chunk_;
  const std::uint64_t round_;
  const AllReduceOptions sum_;
  std::uint64_t* const contributors_;
  Trace& trace_;
  TimePoint began_;
  TimePoint checked_;
};

class HierarchicalExchange final : public Exchange {
 public:
  HierarchicalExchange(const ExchangeContext& context, const Hosts& hosts,
                       std::unique_ptr<HostArena> host)
      : context_(context),
        flow_(std::make_shared<const std::vector<Rank>>(
            hosts.at_place(hosts.place_of(context.options.rank)))),
        host_number_(static_cast<Rank>(hosts.host_of(context.options.rank))),
        host_(std::move(host)),
        contributors_(context),
        tasks_(context) {}

  std::string_view algorithm() const override { return "hierarchical"; }

  // Between the first ranks of the hosts, then within each host.
  Status begin() override {
    if (host_->group().member() == 0) {
      const Range whole{0, context_.arena.elems().value};
      DIST_TRY(context_.progress.run(make_ring_broadcast(
          flow_options(context_.arena.parameters(whole), "broadcast of the parameters"),
          context_.trace)));
    }
    DIST_TRY(host_->take_parameters(updates()));
    tasks_.begin();
    return {};
  }

  // While the ring of one bucket is under way the next one is summed within the host.
  void start(std::size_t bucket) override {
    const Range chunk = host_->own_chunk(context_.buckets[bucket].range);
    auto ring = flow_options(context_.arena.gradients(chunk), fmt::format("bucket {}", bucket));
    const Ticket sum = context_.progress.submit(std::make_unique<SumTask>(
        *host_, chunk, ring, bucket == 0 ? &contributors_.own() : nullptr, context_.trace));
    if (bucket == 0) contributors_.count(flow_options({}, "contributors"), {sum});
    const Bytes bytes(ring.data.size());
    tasks_.submit(make_ring_all_reduce(std::move(ring), context_.trace), bytes, {sum});
  }

  // All buckets at once: ranks of a host share the parameters and meet when they have updated them.
  Status await(std::size_t, StepReport* report) override {
    if (updated_) return {};
    updated_ = true;
    // Until all ranks of the host have ended their backward passes, somebody may read parameters.
    DIST_TRY(meet("ring: wait for gradients", report));
    DIST_TRY(contributors_.wait(report));
    for (std::size_t b = 0; b < context_.buckets.size(); ++b) {
      DIST_TRY(tasks_.wait(b, report));
      if (!context_.updater.needs_norms()) update_own_chunk(b, report, {});
    }
    if (context_.updater.needs_norms()) DIST_TRY(update_by_norms(report));
    DIST_TRY(meet("ring: wait for the update", report));
    return updates() ? Status() : collect_gradients(report);
  }

  Status finish(StepReport* report) override {
    DIST_TRY(await(0, report));
    updated_ = false;
    tasks_.leave_out(contributors_.bytes_sent());
    tasks_.finish(report);
    report->bytes_sent += host_->gradients_read_by_others(context_.buckets);
    if (updates()) report->memory_saved = host_->memory_saved(context_.updater);
    return {};
  }

  void join() override { host_->group().set_contributes(false); }

  // Nobody leaves while another rank of any host still exchanges.
  Status end() override {
    DIST_TRY(host_->give_back_parameters());
    float one = 1;
    auto options = flow_options(std::as_writable_bytes(std::span(&one, 1)), "end");
    options.dtype = DType::f32;
    return context_.progress.run(make_ring_all_reduce(std::move(options), context_.trace));
  }

  Range updated(Range bucket) const override { return host_->own_chunk(bucket); }
  // The ranks at the same place of all hosts hold the same.
  Range saved(Range bucket) const override {
    return chunk_range(host_->own_chunk(bucket), static_cast<int>(flow_->size()), host_number_);
  }

 private:
  // Among the ranks at this rank's place of all hosts.
  AllReduceOptions flow_options(std::span<std::byte> data, std::string_view what) const {
    auto options = ring_options(context_, data, context_.arena.dtype(), what);
    options.rank = host_number_;
    options.ranks = static_cast<int>(flow_->size());
    options.members = flow_;
    return options;
  }

  bool updates() const { return context_.updater.updates_parameters(); }

  // Without an update of ours every rank wants the means of the other members' chunks as well.
  Status collect_gradients(StepReport* report) {
    for (const Bucket& bucket : context_.buckets) host_->copy_chunks_of_others(bucket.range);
    return meet("ring: wait for readers", report);
  }

  void update_own_chunk(std::size_t bucket, StepReport* report, std::span<const double> squares) {
    update_from_sums(context_, host_->own_chunk(context_.buckets[bucket].range), report, squares);
  }

  // The ranks of a host have all sums between them.
  Status update_by_norms(StepReport* report) {
    std::vector<double> squares(context_.updater.square_count(), 0);
    for (const Bucket& bucket : context_.buckets) {
      add_squares(context_, host_->own_chunk(bucket.range), squares);
    }
    DIST_TRY(host_->sum_squares(squares));
    for (std::size_t b = 0; b < context_.buckets.size(); ++b) update_own_chunk(b, report, squares);
    return {};
  }

  Status meet(std::string_view what, StepReport* report) {
    return wait_exposed(context_, what, report, [&] { return host_->group().meet_again(what); });
  }

  const ExchangeContext context_;
  const std::shared_ptr<const std::vector<Rank>> flow_;
  const Rank host_number_;
  std::unique_ptr<HostArena> host_;
  bool updated_ = false;  // this step
  Contributors contributors_;
  StepTasks tasks_;  // one a bucket; last: they use the host's arenas
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
