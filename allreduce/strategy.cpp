// SPDX-License-Identifier: Apache-2.0
// Reduce everywhere, update everywhere: the broadcast is the all-gather of the gradients.
#include "allreduce/strategy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "allreduce/all_reduce.h"
#include "libdist/bucket/bucket.h"
#include "libdist/check.h"

namespace dist::allreduce {
namespace {

// The layout check must work even where segment sizes differ; it is short enough for one segment.
constexpr std::uint64_t kCheckSegmentBytes = 1 << 20;

// FNV-1a over everything that must be the same on every rank, folded to what a double holds
// exactly.
class LayoutHash {
 public:
  LayoutHash& text(std::string_view value) {
    for (const char c : value) mix(static_cast<unsigned char>(c));
    return number(value.size());
  }
  LayoutHash& real(double value) { return number(std::bit_cast<std::uint64_t>(value)); }
  LayoutHash& number(std::uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) mix(value >> (8 * byte) & 0xff);
    return *this;
  }
  double folded() const { return static_cast<double>(hash_ >> 12); }

 private:
  void mix(std::uint64_t byte) { hash_ = (hash_ ^ byte) * 1099511628211ull; }
  std::uint64_t hash_ = 14695981039346656037ull;
};

double layout_hash(const Arena& arena, const Options& options, const UpdateRule& rule) {
  LayoutHash hash;
  hash.text(name_of(arena.dtype())).text(name_of(rule)).text(options.algorithm);
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    hash.text(arena.parameter(p).name).number(arena.parameter(p).elements.value);
  }
  std::visit(
      [&]<typename Rule>(const Rule& chosen) {
        hash.real(chosen.learning_rate).real(chosen.weight_decay);
        if constexpr (requires { chosen.momentum; }) hash.real(chosen.momentum);
      },
      rule);
  hash.number(options.bucket_bytes.value)
      .number(options.first_bucket_bytes.value)
      .number(options.segment_bytes.value);
  return hash.folded();
}

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

class RingStrategy final : public Strategy {
 public:
  RingStrategy(World& world, Arena& arena, Updater updater)
      : progress_(world.progress()),
        trace_(world.trace()),
        options_(world.options()),
        arena_(arena),
        buckets_(make_buckets(arena, {options_.bucket_bytes, options_.first_bucket_bytes})),
        tracker_(buckets_),
        updater_(std::move(updater)),
        bytes_sent_(progress_.counters().sent) {
    tickets_.reserve(buckets_.size());
  }

  // A step given up half-way: the others hear of it, and nothing touches the arena any more.
  ~RingStrategy() override {
    if (std::all_of(tickets_.begin(), tickets_.end(),
                    [](const Ticket& ticket) { return ticket.finished(); })) {
      return;
    }
    progress_.cancel(Status::cancelled(
        fmt::format("ring: rank {} gave up step {} before finish_step()", options_.rank, step_)));
  }

  std::string_view name() const override { return "ring"; }
  int workers() const override { return options_.ranks; }
  int worker() const override { return options_.rank; }

  Status begin() override {
    DIST_TRY(check_layouts());
    const Range whole{0, arena_.elems().value};
    DIST_TRY(progress_.run(make_ring_broadcast(
        task_options(arena_.parameters(whole), "broadcast of the parameters", arena_.dtype()),
        trace_)));
    bytes_sent_ = progress_.counters().sent;
    return {};
  }

  void ready(std::size_t index) override {
    tracker_.ready(index);
    while (const auto bucket = tracker_.next_full()) submit(*bucket);
  }

  Result<StepReport> finish_step() override {
    DIST_ASSERT(tracker_.step_complete(), "finish_step() before every parameter was ready");
    StepReport report;
    report.step = step_++;
    BusyTime busy;
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
      DIST_TRY(await(b, &report));
      busy.add(tickets_[b].started(), tickets_[b].ended());
      update(b, &report);
    }
    report.communication_busy = busy.total();
    const auto sent = progress_.counters().sent;
    report.bytes_sent = sent - bytes_sent_;
    bytes_sent_ = sent;
    tickets_.clear();
    tracker_.begin_step();
    return report;
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
    return {data,
            dtype,
            options_.rank,
            options_.ranks,
            options_.segment_bytes.value,
            fmt::format("ring: {}", what),
            Channel::collective};
  }

  // Every rank learns every rank's hash, so that all of them refuse, and say whom.
  Status check_layouts() {
    std::vector<double> hashes(static_cast<std::size_t>(options_.ranks));
    hashes[static_cast<std::size_t>(options_.rank)] =
        layout_hash(arena_, options_, updater_.rule());
    auto task = task_options(std::as_writable_bytes(std::span(hashes)), "comparison of layouts",
                             DType::f64);
    task.segment_bytes = kCheckSegmentBytes;
    DIST_TRY(progress_.run(make_ring_all_reduce(std::move(task), trace_)));
    std::vector<Rank> others;
    for (Rank r = 1; r < options_.ranks; ++r) {
      if (hashes[static_cast<std::size_t>(r)] != hashes[0]) others.push_back(r);
    }
    if (others.empty()) return {};
    return Status::invalid_argument(fmt::format(
        "ring: the layouts differ: rank(s) {} and rank 0 do not have the same parameters (name, "
        "size, type, order), update rule, algorithm or bucket and segment sizes; start every rank "
        "with the same model and options",
        fmt::join(others, ", ")));
  }

  void submit(std::size_t bucket) {
    auto options = task_options(arena_.gradients(buckets_[bucket].range),
                                fmt::format("bucket {}", bucket), arena_.dtype());
    auto task = options_.algorithm == "native" ? make_native_all_reduce(std::move(options), trace_)
                                               : make_ring_all_reduce(std::move(options), trace_);
    // One after the other: they share a channel.
    const Ticket* before = tickets_.empty() ? nullptr : &tickets_.back();
    tickets_.push_back(progress_.submit(std::move(task), before));
  }

  Status await(std::size_t bucket, StepReport* report) {
    const auto begin = Clock::now();
    const Status outcome = tickets_[bucket].wait();
    const auto end = Clock::now();
    report->communication_exposed += end - begin;
    trace_.record(Activity::wait, "wait for gradients", begin, end);
    return outcome;
  }

  // Runs while the next bucket is exchanged.
  void update(std::size_t bucket, StepReport* report) {
    const Range range = buckets_[bucket].range;
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
  const Options options_;
  Arena& arena_;
  const std::vector<Bucket> buckets_;
  BucketTracker tracker_;
  Updater updater_;
  std::vector<Ticket> tickets_;  // of this step, one a bucket
  Bytes bytes_sent_;
  std::uint64_t step_ = 0;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_strategy(World& world, Arena& arena, UpdateRule rule) {
  const Options& options = world.options();
  if (options.algorithm != "ring" && options.algorithm != "native") {
    return Status::invalid_argument(
        fmt::format("ring: algorithm '{}' is unknown; valid: ring, native", options.algorithm));
  }
  if (options.algorithm == "native" && options.deterministic) {
    return Status::invalid_argument(
        "ring: algorithm native leaves the order of the sum to MPI, which deterministic refuses; "
        "choose algorithm ring");
  }
  if (options.algorithm == "native" && !native_available(world.progress().transport())) {
    return Status::unavailable(fmt::format(
        "ring: algorithm native needs the transport mpi, this world uses {}; choose transport mpi "
        "(under mpirun, in a build with MPI) or algorithm ring",
        world.transport_name()));
  }
  auto updater = Updater::create(rule, arena.elems(), arena.dtype(), arena.alias_window());
  DIST_TRY_BECAUSE(updater, "ring");
  return std::unique_ptr<Strategy>(
      std::make_unique<RingStrategy>(world, arena, *std::move(updater)));
}

}  // namespace dist::allreduce
