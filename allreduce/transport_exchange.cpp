// SPDX-License-Identifier: Apache-2.0
// Reduce everywhere, update everywhere: the broadcast is the all-gather of the gradients. Sharded:
// between the two halves of the ring each rank updates its chunk, and the second half carries
// parameters. Where the update needs norms, all sums come first.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/compressed_all_reduce.h"
#include "allreduce/contributors.h"
#include "allreduce/exchange.h"
#include "allreduce/executor.h"
#include "allreduce/ring_plan.h"
#include "allreduce/step_tasks.h"
#include "libdist/checkpoint/held_back.h"
#include "libdist/compress/error_feedback.h"

namespace dist::allreduce {
namespace {

class TransportExchange final : public Exchange {
 public:
  explicit TransportExchange(const ExchangeContext& context)
      : context_(context),
        settled_(context.buckets.size(), false),
        contributors_(context),
        tasks_(context) {}

  // Remembers for every element what its roundings have lost, if the method needs that.
  Status compress() {
    const auto method = compression_named(context_.options.compress);
    DIST_TRY(method);
    compressor_.emplace(*method, context_.options.top_k, context_.arena.dtype());
    for (ErrorFeedback* feedback : {&lost_gradients_, &lost_sums_}) {
      auto made = ErrorFeedback::make(*method, context_.arena);
      DIST_TRY(made);
      *feedback = *std::move(made);
    }
    return {};
  }

  std::string_view algorithm() const override {
    if (compressor_) return "all-to-all, compressed";
    if (sharded()) return "ring, sharded";
    return context_.options.algorithm == "native" ? "native" : "ring";
  }

  Status begin() override {
    const Range whole{0, context_.arena.elems().value};
    DIST_TRY(context_.progress.run(make_ring_broadcast(
        options(context_.arena.parameters(whole), "broadcast of the parameters"), context_.trace)));
    tasks_.begin();
    return {};
  }

  void start(std::size_t bucket) override {
    auto task = options(context_.arena.gradients(context_.buckets[bucket].range),
                        fmt::format("bucket {}", bucket));
    const Bytes bytes(task.data.size());
    tasks_.submit(make_task(bucket, std::move(task)), bytes);
    if (bucket != 0) return;
    contributors_.own() = joined_ ? 0 : 1;
    contributors_.count(options({}, "contributors"));
  }

  Status await(std::size_t bucket, StepReport* report) override {
    if (!sharded()) return settle(bucket, report);
    // The second halves leave in the order of the buckets, behind all first halves.
    for (std::size_t b = 0; b < settled_.size(); ++b) DIST_TRY(settle(b, report));
    return tasks_.wait(first_gather() + bucket, report);
  }

  // A bucket is updated while the next one is exchanged.
  Status finish(StepReport* report) override {
    for (std::size_t b = 0; b < settled_.size(); ++b) DIST_TRY(settle(b, report));
    for (std::size_t t = first_gather(); t < tasks_.size(); ++t) DIST_TRY(tasks_.wait(t, report));
    tasks_.leave_out(contributors_.bytes_sent());
    tasks_.finish(report);
    report->compression_saved += std::exchange(saved_, Bytes());
    if (compressor_) {
      report->compression += compressor_->time() - std::exchange(packing_, compressor_->time());
    }
    settled_.assign(settled_.size(), false);
    squares_.clear();
    if (sharded()) {
      report->memory_saved =
          saved_by_sharing(context_.updater.state_bytes(), context_.options.ranks);
    }
    return {};
  }

  void join() override { joined_ = true; }

  // Leaving early would look like a lost rank to whoever still exchanges.
  Status end() override {
    float one = 1;
    return context_.progress.run(make_ring_all_reduce(
        ring_options(context_, std::as_writable_bytes(std::span(&one, 1)), DType::f32, "end"),
        context_.trace));
  }

  Range updated(Range bucket) const override { return sharded() ? own_chunk(bucket) : bucket; }
  Range saved(Range bucket) const override { return own_chunk(bucket); }

  void add_held_back(checkpoint::Snapshot* snapshot, std::uint64_t steps) const override {
    checkpoint::add_held_back(snapshot, own_array(), whole(), steps, lost_gradients_);
    for (const Bucket& bucket : context_.buckets) {
      checkpoint::add_held_back(snapshot, checkpoint::kHeldBack, own_sums(bucket.range), steps,
                                lost_sums_);
    }
  }

  Status load_held_back(const checkpoint::Source& source) override {
    DIST_TRY(checkpoint::load_held_back(source, own_array(), whole(), lost_gradients_));
    for (const Bucket& bucket : context_.buckets) {
      DIST_TRY(checkpoint::load_held_back(source, checkpoint::kHeldBack, own_sums(bucket.range),
                                          lost_sums_));
    }
    return {};
  }

 private:
  Range whole() const { return {0, context_.arena.elems().value}; }
  std::uint32_t own_array() const { return checkpoint::held_back_by(context_.options.rank); }

  // The sums that this rank sends, of a bucket that is compressed.
  Range own_sums(Range bucket) const {
    return chunk_range(bucket, context_.options.ranks, context_.options.rank);
  }

  AllReduceOptions options(std::span<std::byte> data, std::string_view what) const {
    return ring_options(context_, data, context_.arena.dtype(), what);
  }

  bool sharded() const { return context_.options.shard_optimizer; }
  bool needs_norms() const { return context_.updater.needs_norms(); }

  // The place of the first second half among the tasks.
  std::size_t first_gather() const { return settled_.size() + (needs_norms() ? 1 : 0); }

  // Waits for the sum of a bucket and updates what this rank updates of it, once a step.
  Status settle(std::size_t bucket, StepReport* report) {
    if (settled_[bucket]) return {};
    DIST_TRY(contributors_.wait(report));
    DIST_TRY(tasks_.wait(bucket, report));
    if (needs_norms() && squares_.empty()) DIST_TRY(measure(report));
    update_from_sums(context_, own_part(bucket), report, squares_);
    if (sharded()) gather_parameters(bucket);
    settled_[bucket] = true;
    return {};
  }

  std::unique_ptr<Task> make_task(std::size_t bucket, AllReduceOptions task) {
    if (compressor_ && Bytes(task.data.size()) >= context_.options.compress_at_least) {
      const Range range = context_.buckets[bucket].range;
      return make_compressed_all_reduce(std::move(task), *compressor_,
                                        {lost_gradients_.of(range), lost_sums_.of(range)}, saved_);
    }
    if (sharded()) return ring_half(&ring_reduce_scatter_plan, task);
    if (context_.options.algorithm == "native") {
      return make_native_all_reduce(std::move(task), context_.trace);
    }
    return make_ring_all_reduce(std::move(task), context_.trace);
  }

  // The norms of all sums, before the first update of the step. Every rank computes the same from
  // the same sums; sharded, everybody adds what it found in its chunks.
  Status measure(StepReport* report) {
    for (std::size_t b = 0; b < settled_.size(); ++b) DIST_TRY(tasks_.wait(b, report));
    squares_.assign(context_.updater.square_count(), 0);
    for (std::size_t b = 0; b < settled_.size(); ++b) {
      add_squares(context_, own_part(b), squares_);
    }
    if (!sharded()) return {};
    auto task =
        ring_options(context_, std::as_writable_bytes(std::span(squares_)), DType::f64, "norms");
    const Bytes bytes(task.data.size());
    tasks_.submit(make_ring_all_reduce(std::move(task), context_.trace), bytes);
    return tasks_.wait(settled_.size(), report);
  }

  // What this rank updates of a bucket.
  Range own_part(std::size_t bucket) const {
    const Range range = context_.buckets[bucket].range;
    return sharded() ? own_chunk(range) : range;
  }

  // After the first half of the ring rank r has the sum of chunk r + 1.
  Range own_chunk(Range bucket) const {
    const int ranks = context_.options.ranks;
    return chunk_range(bucket, ranks, (context_.options.rank + 1) % ranks);
  }

  std::unique_ptr<Task> ring_half(Plan (*plan)(Rank, int, std::uint64_t, int),
                                  const AllReduceOptions& task) {
    const auto elems = task.data.size() / size_of(task.dtype);
    return std::make_unique<Executor>(plan(task.rank, task.ranks, elems, 0), task, context_.trace);
  }

  void gather_parameters(std::size_t bucket) {
    const auto data = context_.arena.parameters(context_.buckets[bucket].range);
    tasks_.submit(ring_half(&ring_all_gather_plan,
                            options(data, fmt::format("parameters of bucket {}", bucket))),
                  Bytes(data.size()));
  }

  const ExchangeContext context_;
  std::vector<bool> settled_;    // by bucket, of this step
  std::vector<double> squares_;  // of this step, where norms are needed
  bool joined_ = false;
  std::optional<Compressor> compressor_;
  Bytes saved_;          // by compression, in this step
  Duration packing_{0};  // the compressor's time up to this step
  ErrorFeedback lost_gradients_;
  ErrorFeedback lost_sums_;
  Contributors contributors_;
  StepTasks tasks_;  // last: they use all of the above. One a bucket; sharded one for the norms and
                     // a second one a bucket
};

}  // namespace

Result<std::unique_ptr<Exchange>> make_transport_exchange(const ExchangeContext& context) {
  auto made = std::make_unique<TransportExchange>(context);
  if (context.options.compress != "none") DIST_TRY(made->compress());
  return std::unique_ptr<Exchange>(std::move(made));
}

}  // namespace dist::allreduce
