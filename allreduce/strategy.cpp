// SPDX-License-Identifier: Apache-2.0
// Buckets in order, one exchange behind them, chosen when all ranks have met.
#include "allreduce/strategy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/contributors.h"
#include "allreduce/exchange.h"
#include "libdist/bucket/bucket.h"
#include "libdist/check.h"
#include "libdist/checkpoint/update_state.h"
#include "libdist/hash.h"
#include "libdist/host/hosts.h"

namespace dist::allreduce {
namespace {

std::uint64_t layout_hash(const Arena& arena, const Options& options, const Update& update) {
  LayoutHash hash;
  hash.text(name_of(arena.dtype())).text(describe(update)).text(options.algorithm);
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

// Whether arenas may be reached in place. An arena that replays many large replicas in one window
// holds nothing that could be shared; tcp within a host is used by those who want tcp.
bool shares_memory(const Options& options, const Transport& transport, const Arena& arena) {
  if (options.ranks == 1) return false;
  if (options.algorithm == "sweep" || options.algorithm == "hierarchical") return true;
  const bool several_a_host = options.local_ranks > 1 || options.one_host;
  return options.algorithm == "auto" && several_a_host && !options.shard_optimizer &&
         options.compress == "none" && arena.gradient_memory().shareable() &&
         (transport.name() != "tcp" || !options.one_host || options.ranks_per_host > 0);
}

class RingStrategy final : public Strategy {
 public:
  RingStrategy(World& world, Arena& arena, Updater updater)
      : progress_(world.progress()),
        order_(world.operation_order()),
        trace_(world.trace()),
        log_(world.log()),
        options_(world.options()),
        arena_(arena),
        buckets_(make_buckets(arena, {options_.bucket_bytes, options_.first_bucket_bytes})),
        tracker_(buckets_),
        updater_(std::move(updater)) {}

  std::string_view name() const override { return "ring"; }
  int workers() const override { return options_.ranks; }
  int worker() const override { return options_.rank; }

  Status begin() override {
    DIST_TRY(check_layouts());
    DIST_TRY(choose_exchange());
    if (checkpoint_source_ == nullptr) return exchange_->begin();
    const Range whole{0, arena_.elems().value};
    if (options_.rank == 0) {
      DIST_TRY_BECAUSE(checkpoint_source_->read(whole, 0, arena_.parameters(whole)),
                       "ring: resume");
    }
    DIST_TRY(exchange_->begin());
    step_ = checkpoint_source_->step();
    for (const Bucket& bucket : buckets_) {
      const Range part = exchange_->updated(bucket.range);
      DIST_TRY_BECAUSE(checkpoint::load_state(*checkpoint_source_, part, &updater_, part.begin),
                       "ring");
    }
    return {};
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
    const bool program_updates = !updater_.updates_parameters();
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
    contribute_nothing(arena_);
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
    checkpoint::Snapshot snapshot(step_, options_.rank, options_.ranks);
    for (const Bucket& bucket : buckets_) {
      const Range part = exchange_->saved(bucket.range);
      checkpoint::add_range(&snapshot, part, step_, arena_.parameters(part), updater_, part.begin);
    }
    checkpoint_sink_->accept(std::move(snapshot));
    return Saving{step_, options_.ranks};
  }

 private:
  // Every rank learns every rank's hash, so that all of them refuse, and say whom.
  Status check_layouts() {
    std::vector<std::uint64_t> hashes(static_cast<std::size_t>(options_.ranks));
    hashes[static_cast<std::size_t>(options_.rank)] =
        layout_hash(arena_, options_, updater_.update());
    DIST_TRY(sum_words(hashes, "comparison of layouts"));
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

  // All ranks decide alike: by their options, which check_layouts() has compared, by what they
  // gather here, and together.
  Status choose_exchange() {
    const ExchangeContext context{progress_, order_, trace_, options_, arena_, buckets_, updater_};
    if (shares_memory(options_, progress_.transport(), arena_)) {
      const auto hosts = find_hosts(options_.rank, options_.ranks, options_.ranks_per_host,
                                    [this](auto words) { return sum_words(words, "hosts"); });
      DIST_TRY(hosts);
      auto made = make_exchange(context, *hosts);
      DIST_TRY(agree(&made));
      if (made.ok()) {
        exchange_ = *std::move(made);
        return {};
      }
      if (options_.algorithm != "auto" || made.status().code() != ErrorCode::unavailable) {
        return made.status().because(fmt::format("ring: algorithm {}", options_.algorithm));
      }
      log_.info(fmt::format("ring: gradients go over {}: {}", progress_.transport().name(),
                            made.status().message()));
    }
    auto made = make_transport_exchange(context);
    DIST_TRY_BECAUSE(made, "ring");
    exchange_ = *std::move(made);
    return {};
  }

  Result<std::unique_ptr<Exchange>> make_exchange(const ExchangeContext& context,
                                                  const Hosts& hosts) const {
    const bool automatic = options_.algorithm == "auto";
    if (hosts.one() && (automatic || options_.algorithm == "sweep")) {
      return make_host_exchange(context, hosts);
    }
    const bool several = !hosts.one() && hosts.even() && hosts.ranks_of.front().size() > 1;
    const bool allowed = !options_.deterministic && options_.share_parameters;
    if (several && (options_.algorithm == "hierarchical" || (automatic && allowed))) {
      return make_hierarchical_exchange(context, hosts);
    }
    return Status::unavailable(fmt::format(
        "{} ranks on {} host(s): sweep needs one host; hierarchical needs several with the same "
        "number of ranks each, at least 2, share-parameters, and not deterministic",
        options_.ranks, hosts.ranks_of.size()));
  }

  // One host's failure is everybody's.
  Status agree(Result<std::unique_ptr<Exchange>>* made) {
    std::array<std::uint64_t, 1> failures = {made->ok() ? 0u : 1u};
    DIST_TRY(sum_words(failures, "agreement on the exchange"));
    if (failures[0] != 0 && made->ok()) {
      *made = Status::unavailable("on another host memory cannot be shared");
    }
    return {};
  }

  // In segments of a fixed size: it must work even where the options differ.
  Status sum_words(std::span<std::uint64_t> words, std::string_view what) {
    AllReduceOptions task;
    task.data = std::as_writable_bytes(words);
    task.dtype = DType::u64;
    task.rank = options_.rank;
    task.ranks = options_.ranks;
    task.label = fmt::format("ring: {}", what);
    return progress_.run(make_ring_all_reduce(std::move(task), trace_));
  }

  Progress& progress_;
  OperationOrder& order_;
  Trace& trace_;
  const Log& log_;
  const Options& options_;
  Arena& arena_;
  const std::vector<Bucket> buckets_;
  BucketTracker tracker_;
  Updater updater_;
  std::uint64_t step_ = 0;
  StepReport report_;                   // of the step that is being exchanged
  std::unique_ptr<Exchange> exchange_;  // from begin() on; last: it uses all of the above
};

Status check_compression(const Options& options) {
  if (options.compress == "none") return {};
  if (options.compress == "top-k" || options.compress == "one-bit") {
    return Status::invalid_argument(fmt::format(
        "ring: compress {} is for parameter servers: sums of it are as long as what it compresses; "
        "choose f16, bf16 or int8, or strategy sync-ps or async-ps",
        options.compress));
  }
  if ((options.algorithm != "auto" && options.algorithm != "ring") || options.shard_optimizer) {
    return Status::invalid_argument(fmt::format(
        "ring: compress {} has an exchange of its own over the transport: not with algorithm {}{}; "
        "leave out what is not auto",
        options.compress, options.algorithm, options.shard_optimizer ? ", shard-optimizer" : ""));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Strategy>> make_strategy(World& world, Arena& arena, Update update) {
  const Options& options = world.options();
  static constexpr std::array<std::string_view, 5> kAlgorithms = {"auto", "sweep", "hierarchical",
                                                                  "ring", "native"};
  if (std::find(kAlgorithms.begin(), kAlgorithms.end(), options.algorithm) == kAlgorithms.end()) {
    return Status::invalid_argument(fmt::format("ring: algorithm '{}' is unknown; valid: {}",
                                                options.algorithm, fmt::join(kAlgorithms, ", ")));
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
  const bool in_place = options.algorithm == "sweep" || options.algorithm == "hierarchical";
  if (in_place && !arena.gradient_memory().shareable()) {
    return Status::invalid_argument(fmt::format(
        "ring: algorithm {} reads the arenas of other ranks, and this arena's memory is an alias "
        "window (a replay); choose algorithm ring",
        options.algorithm));
  }
  if (options.algorithm == "hierarchical" && (options.deterministic || !options.share_parameters)) {
    return Status::invalid_argument(
        "ring: algorithm hierarchical has its own order of the sum, which deterministic refuses, "
        "and needs share-parameters; choose algorithm ring");
  }
  if (options.shard_optimizer && options.algorithm != "auto" && options.algorithm != "ring") {
    return Status::invalid_argument(fmt::format(
        "ring: shard-optimizer is for algorithm ring, not {}: sweep and hierarchical shard the "
        "state of the optimizer anyway, native cannot",
        options.algorithm));
  }
  DIST_TRY(check_compression(options));
  if (options.shard_optimizer && !updates_parameters(update.rule)) {
    return Status::invalid_argument(
        "ring: shard-optimizer leaves every rank the gradient of its chunk only, but the rule "
        "mean-gradient wants all of it; switch shard-optimizer off or choose an update rule");
  }
  auto updater =
      Updater::create(std::move(update), layout_of(arena), arena.dtype(), arena.alias_window());
  DIST_TRY_BECAUSE(updater, "ring");
  return std::unique_ptr<Strategy>(
      std::make_unique<RingStrategy>(world, arena, *std::move(updater)));
}

}  // namespace dist::allreduce
