// SPDX-License-Identifier: Apache-2.0
// Reduce everywhere, update everywhere: the broadcast is the all-gather of the gradients. Sharded:
// between the two halves of the ring each rank updates its chunk, and the second half carries
// parameters.
#include <fmt/format.h>

#include <algorithm>

#include "allreduce/all_reduce.h"
#include "allreduce/exchange.h"
#include "allreduce/executor.h"
#include "allreduce/ring_plan.h"

namespace dist::allreduce {
namespace {

// Time covered by at least one of the intervals, which are ordered by their beginning.
class BusyTime {
 public:
  void add(TimePoint begin, TimePoint end) {
    begin = std::max(begin, until_);
    if (end <= begin) return;
    total_ += end - begin;
    until_ = end;
  }
  Duration total() const { return total_; }

 private:
  Duration total_{0};
  TimePoint until_;
};

class TransportExchange final : public Exchange {
 public:
  explicit TransportExchange(const ExchangeContext& context)
      : progress_(context.progress),
        trace_(context.trace),
        options_(context.options),
        arena_(context.arena),
        buckets_(context.buckets),
        updater_(context.updater),
        bytes_sent_(progress_.counters().sent) {
    tickets_.reserve(2 * buckets_.size());
  }

  // A step given up half-way: the others hear of it, and nothing touches the arena any more.
  ~TransportExchange() override {
    if (std::all_of(tickets_.begin(), tickets_.end(),
                    [](const Ticket& ticket) { return ticket.finished(); })) {
      return;
    }
    progress_.cancel(Status::cancelled(
        fmt::format("ring: rank {} gave up a step before finish_step()", options_.rank)));
  }

  std::string_view algorithm() const override {
    if (sharded()) return "ring, sharded";
    return options_.algorithm == "native" ? "native" : "ring";
  }

  Status begin() override {
    const Range whole{0, arena_.elems().value};
    DIST_TRY(progress_.run(make_ring_broadcast(
        task_options(arena_.parameters(whole), "broadcast of the parameters", arena_.dtype()),
        trace_)));
    bytes_sent_ = progress_.counters().sent;
    return {};
  }

  void start(std::size_t bucket) override {
    auto options = task_options(arena_.gradients(buckets_[bucket].range),
                                fmt::format("bucket {}", bucket), arena_.dtype());
    submit(sharded()                        ? ring_half(&ring_reduce_scatter_plan, options)
           : options_.algorithm == "native" ? make_native_all_reduce(std::move(options), trace_)
                                            : make_ring_all_reduce(std::move(options), trace_));
  }

  Status finish(StepReport* report) override {
    BusyTime busy;
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
      DIST_TRY(await(b, report));
      busy.add(tickets_[b].started(), tickets_[b].ended());
      update(sharded() ? own_chunk(buckets_[b].range) : buckets_[b].range, report);
      if (sharded()) gather_parameters(b);
    }
    for (std::size_t t = buckets_.size(); t < tickets_.size(); ++t) {
      DIST_TRY(await(t, report));
      busy.add(tickets_[t].started(), tickets_[t].ended());
    }
    report->communication_busy = busy.total();
    const auto sent = progress_.counters().sent;
    report->bytes_sent = sent - bytes_sent_;
    bytes_sent_ = sent;
    if (sharded()) {
      const auto state = updater_.state_bytes().value;
      report->memory_saved = Bytes(state - state / static_cast<std::uint64_t>(options_.ranks));
    }
    tickets_.clear();
    return {};
  }

  // Leaving early would look like a lost rank to whoever still exchanges.
  Status end() override {
    float one = 1;
    return progress_.run(make_ring_all_reduce(
        task_options(std::as_writable_bytes(std::span(&one, 1)), "end", DType::f32), trace_));
  }

 private:
  AllReduceOptions task_options(std::span<std::byte> data, std::string_view what,
                                DType dtype) const {
    AllReduceOptions options;
    options.data = data;
    options.dtype = dtype;
    options.rank = options_.rank;
    options.ranks = options_.ranks;
    options.segment_bytes = options_.segment_bytes.value;
    options.label = fmt::format("ring: {}", what);
    return options;
  }

  bool sharded() const { return options_.shard_optimizer; }

  // After the first half of the ring rank r has the sum of chunk r + 1.
  Range own_chunk(Range bucket) const {
    return chunk_range(bucket, options_.ranks, (options_.rank + 1) % options_.ranks);
  }

  std::unique_ptr<Task> ring_half(Plan (*plan)(Rank, int, std::uint64_t, int),
                                  const AllReduceOptions& options) {
    const auto elems = options.data.size() / size_of(options.dtype);
    return std::make_unique<Executor>(plan(options.rank, options.ranks, elems, 0), options, trace_);
  }

  void gather_parameters(std::size_t bucket) {
    submit(ring_half(&ring_all_gather_plan,
                     task_options(arena_.parameters(buckets_[bucket].range),
                                  fmt::format("parameters of bucket {}", bucket), arena_.dtype())));
  }

  // One after the other: they share a channel.
  void submit(std::unique_ptr<Task> task) {
    const Ticket* before = tickets_.empty() ? nullptr : &tickets_.back();
    tickets_.push_back(progress_.submit(std::move(task), before));
  }

  Status await(std::size_t ticket, StepReport* report) {
    const auto begin = Clock::now();
    Status outcome = tickets_[ticket].wait();
    const auto end = Clock::now();
    report->communication_exposed += end - begin;
    trace_.record(Activity::wait, "wait for gradients", begin, end);
    return outcome;
  }

  // Runs while the next bucket is exchanged.
  void update(Range range, StepReport* report) {
    const auto begin = Clock::now();
    updater_.apply(arena_.parameters(range), arena_.gradients(range), range.begin,
                   1.0 / options_.ranks);
    const auto end = Clock::now();
    report->update += end - begin;
    trace_.record(Activity::update, "update", begin, end,
                  bytes_of(Elems(range.elems()), arena_.dtype()));
  }

  Progress& progress_;
  Trace& trace_;
  const Options& options_;
  Arena& arena_;
  const std::vector<Bucket>& buckets_;
  Updater& updater_;
  std::vector<Ticket> tickets_;  // of this step: one a bucket, sharded a second one a bucket
  Bytes bytes_sent_;
};

}  // namespace

std::unique_ptr<Exchange> make_transport_exchange(const ExchangeContext& context) {
  return std::make_unique<TransportExchange>(context);
}

}  // namespace dist::allreduce
