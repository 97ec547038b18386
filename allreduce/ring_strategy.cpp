// SPDX-License-Identifier: Apache-2.0
#include "allreduce/ring_strategy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "allreduce/all_reduce.h"
#include "libdist/check.h"
#include "libdist/hash.h"

namespace dist::allreduce {
namespace {

std::uint64_t layout_hash(const Arena& arena, const Options& options, const Update& update) {
  LayoutHash hash;
  hash.text(name_of(arena.dtype())).text(describe(update)).text(options.algorithm);
  hash.number(options.transport == "nccl").number(arena.device() != nullptr);
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    const Parameter& parameter = arena.parameter(p);
    hash.text(parameter.name).number(parameter.elements.value).number(parameter.decays);
  }
  hash.number(options.bucket_bytes.value)
      .number(options.first_bucket_bytes.value)
      .number(options.segment_bytes.value)
      .number(options.shard_optimizer)
      .number(options.share_parameters)
      .text(options.compress)
      .number(options.compress_at_least.value)
      .number(static_cast<std::uint64_t>(options.ranks_per_host));
  return hash.value();
}

class RingStrategy final : public Strategy {
 public:
  RingStrategy(World& world, Arena& arena, std::unique_ptr<RingSide> side)
      : progress_(world.progress()),
        trace_(world.trace()),
        options_(world.options()),
        arena_(arena),
        buckets_(make_buckets(arena, {options_.bucket_bytes, options_.first_bucket_bytes})),
        tracker_(buckets_),
        side_(std::move(side)) {}

  std::string_view name() const override { return side_->name(); }
  int workers() const override { return side_->ranks(); }
  int worker() const override { return side_->rank(); }

  Status begin() override {
    DIST_TRY(check_layouts());
    auto chosen = side_->choose_exchange(buckets_);
    DIST_TRY(chosen);
    exchange_ = *std::move(chosen);
    if (checkpoint_source_ == nullptr) return exchange_->begin();
    if (side_->rank() == 0) {
      DIST_TRY_BECAUSE(side_->read_parameters(*checkpoint_source_),
                       fmt::format("{}: resume", name()));
    }
    DIST_TRY(exchange_->begin());
    step_ = checkpoint_source_->step();
    exchange_->resume_at(step_);
    for (const Bucket& bucket : buckets_) {
      DIST_TRY_BECAUSE(side_->load_state(*checkpoint_source_, exchange_->updated(bucket.range)),
                       name());
    }
    return exchange_->load_held_back(*checkpoint_source_).because(name());
  }

  std::uint64_t next_step() const override { return step_; }

  void ready(std::size_t index) override {
    DIST_ASSERT(exchange_ != nullptr, "ready() before begin()");
    tracker_.ready(index);
    while (const auto bucket = tracker_.next_full()) exchange_->start(*bucket);
  }

  Status await(std::size_t index) override {
    DIST_ASSERT(tracker_.step_complete(), "await() before every parameter was ready");
    report_.step = step_;
    return exchange_->await(tracker_.bucket_of(index), &report_);
  }

  Result<StepReport> finish_step() override {
    DIST_ASSERT(tracker_.step_complete(), "finish_step() before every parameter was ready");
    report_.step = step_++;
    report_.algorithm = exchange_->algorithm();
    DIST_TRY(exchange_->finish(&report_));
    tracker_.begin_step();
    return std::exchange(report_, {});
  }

  Status join(const std::function<void()>& update) override {
    DIST_ASSERT(exchange_ != nullptr, "join() before begin()");
    const bool program_updates = !updates_parameters(side_->update().rule);
    if (program_updates && !update) {
      return Status::invalid_argument(
          "ring: join() with the rule mean-gradient needs the program's update, which keeps this "
          "replica equal to the others");
    }
    for (;;) {
      const auto others = stand_by();
      DIST_TRY(others);
      if (!*others) return {};
      if (program_updates) update();
    }
  }

  Result<bool> stand_by() override {
    DIST_ASSERT(exchange_ != nullptr, "stand_by() before begin()");
    exchange_->join();
    StepReport report;
    report.step = step_++;
    DIST_TRY_BECAUSE(side_->contribute_nothing(), name());
    for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) exchange_->start(bucket);
    DIST_TRY(exchange_->finish(&report));
    return report.contributors != 0;
  }

  Status end() override {
    DIST_ASSERT(exchange_ != nullptr, "end() before begin()");
    return exchange_->end();
  }

  Result<Saving> save() override {
    DIST_ASSERT(checkpoint_sink_ != nullptr && exchange_ != nullptr,
                "save() needs use_checkpoints() and begin()");
    checkpoint::Snapshot snapshot(step_, side_->rank(), side_->ranks());
    for (const Bucket& bucket : buckets_) {
      DIST_TRY_BECAUSE(side_->add_range(&snapshot, exchange_->saved(bucket.range), step_), name());
    }
    exchange_->add_held_back(&snapshot, step_);
    checkpoint_sink_->accept(std::move(snapshot));
    return Saving{step_, side_->ranks()};
  }

 private:
  // Every rank learns every rank's hash, so that all of them refuse, and say whom.
  Status check_layouts() {
    if (side_->ranks() == 1) return {};
    std::vector<std::uint64_t> hashes(static_cast<std::size_t>(options_.ranks));
    hashes[static_cast<std::size_t>(options_.rank)] =
        layout_hash(arena_, options_, side_->update());
    DIST_TRY(sum_over_ranks(progress_, trace_, options_, hashes,
                            fmt::format("{}: comparison of layouts", name())));
    std::vector<Rank> others;
    for (Rank r = 1; r < options_.ranks; ++r) {
      if (hashes[static_cast<std::size_t>(r)] != hashes[0]) others.push_back(r);
    }
    if (others.empty()) return {};
    return Status::invalid_argument(fmt::format(
        "{}: the layouts differ: rank(s) {} and rank 0 do not have the same parameters (name, "
        "size, type, order), update rule, algorithm or bucket and segment sizes; start every rank "
        "with the same model and options",
        name(), fmt::join(others, ", ")));
  }

  Progress& progress_;
  Trace& trace_;
  const Options& options_;
  Arena& arena_;
  const std::vector<Bucket> buckets_;
  BucketTracker tracker_;
  std::unique_ptr<RingSide> side_;
  std::uint64_t step_ = 0;
  StepReport report_;                   // of the step that is being exchanged
  std::unique_ptr<Exchange> exchange_;  // from begin() on; last: it uses all of the above
};

}  // namespace

std::unique_ptr<Strategy> make_ring_strategy(World& world, Arena& arena,
                                             std::unique_ptr<RingSide> side) {
  return std::make_unique<RingStrategy>(world, arena, std::move(side));
}

Status sum_over_ranks(Progress& progress, Trace& trace, const Options& options,
                      std::span<std::uint64_t> words, std::string_view what) {
  AllReduceOptions task;
  task.data = std::as_writable_bytes(words);
  task.dtype = DType::u64;
  task.rank = options.rank;
  task.ranks = options.ranks;
  task.label = what;
  return progress.run(make_ring_all_reduce(std::move(task), trace));
}

}  // namespace dist::allreduce
