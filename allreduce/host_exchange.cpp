// SPDX-License-Identifier: Apache-2.0
// Reduce, update and broadcast as one sweep over the arenas of one host: every rank sums its chunk
// of each bucket straight out of all gradient arenas and updates that chunk of the parameters, of
// which the ranks share one copy. Two rounds of flags a step, and no byte is copied.
//
// A rank begins to update only when all ranks have ended their backward passes: until then somebody
// may still read the parameters. Where the update needs norms, the sums are kept, and the ranks
// meet a third time to add up what each found in its chunks.
#include <algorithm>
#include <vector>

#include "allreduce/exchange.h"
#include "allreduce/host_arena.h"
#include "allreduce/step_tasks.h"
#include "libdist/memory/reduce.h"

namespace dist::allreduce {
namespace {

class HostExchange final : public Exchange {
 public:
  HostExchange(const ExchangeContext& context, std::unique_ptr<HostArena> host)
      : context_(context), host_(std::move(host)), squares_(context.updater.square_count(), 0) {}

  std::string_view algorithm() const override {
    return shares_parameters() ? "fused sweep" : "sweep";
  }

  Status begin() override { return host_->take_parameters(shares_parameters()); }

  // Everything happens at the end of the backward pass.
  void start(std::size_t) override {}

  Status await(std::size_t, StepReport* report) override {
    if (updated_) return {};
    updated_ = true;
    return sweep(report);
  }

  Status finish(StepReport* report) override {
    DIST_TRY(await(0, report));
    updated_ = false;
    return {};
  }

  void join() override { host_->group().set_contributes(false); }

  Status end() override { return host_->give_back_parameters(); }

  Range updated(Range bucket) const override {
    return shares_parameters() ? host_->own_chunk(bucket) : bucket;
  }
  Range saved(Range bucket) const override { return host_->own_chunk(bucket); }

 private:
  Status sweep(StepReport* report) {
    const auto began = Clock::now();
    DIST_TRY(meet("ring: wait for gradients", report));
    report->contributors = host_->group().contributors();
    const auto summing = Clock::now();
    for (const Bucket& bucket : context_.buckets) sum(bucket, *report);
    if (shares_parameters() && needs_norms()) DIST_TRY(update_own_chunks(report));
    const auto summed = Clock::now();
    context_.trace.record(shares_parameters() ? Activity::update : Activity::reduce, algorithm(),
                          summing, summed, bytes_of(whole()));
    DIST_TRY(meet("ring: wait for the others' chunks", report));
    report->communication_busy += Clock::now() - began;
    // What a transport would have carried away from this rank.
    report->bytes_sent += host_->gradients_read_by_others(context_.buckets);
    if (shares_parameters()) {
      report->update += summed - summing;
      report->memory_saved = host_->memory_saved(context_.updater);
    } else {
      report->bytes_sent += sums_stored_to_others();
      report->communication_exposed += summed - summing;
      if (!takes_mean(*report)) update_by_sums(report);
    }
    return {};
  }

  // The own chunk of a bucket: to its update at once, or to where an update will look for it.
  void sum(const Bucket& bucket, const StepReport& report) {
    const Range chunk = host_->own_chunk(bucket.range);
    host_->gradients(chunk, &sources_);
    if (shares_parameters() && report.contributors == 0) return;
    if (shares_parameters() && !needs_norms()) {
      context_.updater.apply_sum(context_.arena.parameters(chunk), sources_, chunk.begin,
                                 {1.0 / report.contributors, report.step});
      return;
    }
    if (shares_parameters()) {
      outs_.assign(1, context_.arena.gradients(chunk));  // nobody else reads this chunk
    } else {
      host_->gradients(chunk, &outs_);
    }
    reduce_in_order(outs_, sources_, context_.arena.dtype(),
                    takes_mean(report) ? Reduction::mean : Reduction::sum);
  }

  Status update_own_chunks(StepReport* report) {
    std::fill(squares_.begin(), squares_.end(), 0);
    for (const Bucket& bucket : context_.buckets) {
      add_squares(context_, host_->own_chunk(bucket.range), squares_);
    }
    DIST_TRY(host_->sum_squares(squares_));
    StepReport part = *report;  // the whole sweep counts as update
    for (const Bucket& bucket : context_.buckets) {
      update_from_sums(context_, host_->own_chunk(bucket.range), &part, squares_);
    }
    return {};
  }

  void update_by_sums(StepReport* report) {
    std::fill(squares_.begin(), squares_.end(), 0);
    add_squares(context_, whole(), squares_);
    update_from_sums(context_, whole(), report, squares_);
  }

  bool needs_norms() const { return context_.updater.needs_norms(); }

  // A program with an update of its own makes it on every replica.
  bool shares_parameters() const {
    return context_.options.share_parameters && context_.updater.updates_parameters();
  }
  // Without an update of ours, and with everybody's gradients, the sweep divides as well.
  bool takes_mean(const StepReport& report) const {
    return !context_.updater.updates_parameters() &&
           report.contributors == static_cast<int>(host_->members());
  }
  Range whole() const { return {0, context_.arena.elems().value}; }
  Bytes bytes_of(Range range) const {
    return dist::bytes_of(Elems(range.elems()), context_.arena.dtype());
  }

  Status meet(std::string_view what, StepReport* report) {
    return wait_exposed(context_, what, report, [&] { return host_->group().meet_again(what); });
  }

  Bytes sums_stored_to_others() const {
    Bytes stored;
    for (const Bucket& bucket : context_.buckets) {
      stored += bytes_of(host_->own_chunk(bucket.range)) * (host_->members() - 1);
    }
    return stored;
  }

  const ExchangeContext context_;
  std::unique_ptr<HostArena> host_;
  std::vector<std::span<const std::byte>> sources_;
  std::vector<std::span<std::byte>> outs_;
  std::vector<double> squares_;  // of this step, where norms are needed
  bool updated_ = false;         // this step
};

}  // namespace

Result<std::unique_ptr<Exchange>> make_host_exchange(const ExchangeContext& context,
                                                     const Hosts& hosts) {
  auto host = HostArena::meet(context, hosts.ranks_of.front());
  DIST_TRY(host);
  return std::unique_ptr<Exchange>(std::make_unique<HostExchange>(context, *std::move(host)));
}

}  // namespace dist::allreduce
