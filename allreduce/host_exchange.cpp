// SPDX-License-Identifier: Apache-2.0
// Reduce, update and broadcast as one sweep over the arenas of one host: every rank sums its chunk
// of each bucket straight out of all gradient arenas and updates that chunk of the parameters, of
// which the ranks share one copy. Two rounds of flags a step, and no byte is copied.
//
// A rank begins to update only when all ranks have ended their backward passes: until then somebody
// may still read the parameters.
#include "allreduce/exchange.h"
#include "allreduce/host_arena.h"
#include "libdist/memory/reduce.h"

namespace dist::allreduce {
namespace {

class HostExchange final : public Exchange {
 public:
  HostExchange(const ExchangeContext& context, std::unique_ptr<HostArena> host)
      : trace_(context.trace),
        shares_parameters_(context.options.share_parameters),
        arena_(context.arena),
        buckets_(context.buckets),
        updater_(context.updater),
        host_(std::move(host)) {}

  std::string_view algorithm() const override {
    return shares_parameters_ ? "fused sweep" : "sweep";
  }

  Status begin() override { return host_->take_parameters(shares_parameters_); }

  // Everything happens at the end of the backward pass.
  void start(std::size_t) override {}

  Status finish(StepReport* report) override {
    const auto began = Clock::now();
    DIST_TRY(meet("ring: wait for gradients", report));
    const auto summing = Clock::now();
    for (const Bucket& bucket : buckets_) {
      if (shares_parameters_) {
        sum_and_update(bucket.range);
      } else {
        sum_everywhere(bucket.range);
      }
    }
    const auto summed = Clock::now();
    trace_.record(shares_parameters_ ? Activity::update : Activity::reduce, algorithm(), summing,
                  summed, bytes_of(arena_.elems(), arena_.dtype()));
    DIST_TRY(meet("ring: wait for the others' chunks", report));
    report->communication_busy += Clock::now() - began;
    report->bytes_sent += bytes_read_by_others();
    if (shares_parameters_) {
      report->update += summed - summing;
      report->memory_saved = host_->share_of_others(arena_.parameter_memory().bytes().size()) +
                             host_->share_of_others(updater_.state_bytes().value);
    } else {
      report->communication_exposed += summed - summing;
      update_all(report);
    }
    return {};
  }

  Status end() override { return host_->give_back_parameters(); }

 private:
  Status meet(std::string_view what, StepReport* report) {
    const auto begin = Clock::now();
    Status outcome = host_->group().meet_again(what);
    const auto end = Clock::now();
    report->communication_exposed += end - begin;
    trace_.record(Activity::wait, what, begin, end);
    return outcome;
  }

  void sum_and_update(Range bucket) {
    const Range chunk = host_->own_chunk(bucket);
    host_->gradients(chunk, &sources_);
    updater_.apply_sum(arena_.parameters(chunk), sources_, chunk.begin, scale());
  }

  void sum_everywhere(Range bucket) {
    const Range chunk = host_->own_chunk(bucket);
    if (chunk.empty()) return;
    host_->gradients(chunk, &outs_);
    sources_.assign(outs_.begin(), outs_.end());
    reduce_in_order(outs_, sources_, arena_.dtype(), Reduction::sum);
  }

  void update_all(StepReport* report) {
    const auto begin = Clock::now();
    for (const Bucket& bucket : buckets_) {
      updater_.apply(arena_.parameters(bucket.range), arena_.gradients(bucket.range),
                     bucket.range.begin, scale());
    }
    const auto end = Clock::now();
    report->update += end - begin;
    trace_.record(Activity::update, "update", begin, end, bytes_of(arena_.elems(), arena_.dtype()));
  }

  double scale() const { return 1.0 / static_cast<double>(host_->members()); }

  // What a transport would have carried away from this rank: its gradients of the others' chunks,
  // and unless the parameters are shared the sums that it stores into their arenas.
  Bytes bytes_read_by_others() const {
    std::uint64_t elems = 0;
    for (const Bucket& bucket : buckets_) {
      const auto own_elems = host_->own_chunk(bucket.range).elems();
      elems += bucket.range.elems() - own_elems;
      if (!shares_parameters_) elems += own_elems * (host_->members() - 1);
    }
    return bytes_of(Elems(elems), arena_.dtype());
  }

  Trace& trace_;
  const bool shares_parameters_;
  Arena& arena_;
  const std::vector<Bucket>& buckets_;
  Updater& updater_;
  std::unique_ptr<HostArena> host_;
  std::vector<std::span<const std::byte>> sources_;
  std::vector<std::span<std::byte>> outs_;
};

}  // namespace

Result<std::unique_ptr<Exchange>> make_host_exchange(const ExchangeContext& context,
                                                     const Hosts& hosts) {
  auto host = HostArena::meet(context, hosts.ranks_of.front());
  DIST_TRY(host);
  return std::unique_ptr<Exchange>(std::make_unique<HostExchange>(context, *std::move(host)));
}

}  // namespace dist::allreduce
