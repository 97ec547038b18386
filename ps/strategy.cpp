// SPDX-License-Identifier: Apache-2.0
// Reduce, update and broadcast at servers. This file turns the training loop's calls into the
// worker's tasks, and keeps the server of this rank going.
#include "ps/strategy.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "libdist/bucket/bucket.h"
#include "libdist/check.h"
#include "libdist/checkpoint/held_back.h"
#include "libdist/clip.h"
#include "libdist/hash.h"
#include "ps/host_memory.h"
#include "ps/server.h"
#include "ps/worker.h"

namespace dist::ps {
namespace {

// While a piece is waited for: its arrival is told at once, a failure is looked for.
constexpr Duration kLookForFailures = std::chrono::milliseconds(20);

std::uint64_t layout_hash(const Arena& arena, const ShardMap& map, const Roles& roles,
                          const Rules& rules, const Packing& packing, const Update& update) {
  LayoutHash hash;
  hash.text(rules.describe()).text(packing.describe()).text(describe(update));
  hash.number(static_cast<std::uint64_t>(roles.workers))
      .number(static_cast<std::uint64_t>(roles.servers))
      .number(static_cast<std::uint64_t>(roles.placement))
      .text(name_of(arena.dtype()));
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    const Parameter& parameter = arena.parameter(p);
    hash.text(parameter.name).number(parameter.elements.value).number(parameter.decays);
  }
  for (const Bucket& bucket : map.buckets) hash.number(bucket.range.end);
  return hash.value();
}

// Beside the progress thread: the cores that this rank's share of the host leaves over.
int server_threads(const Options& options) {
  if (options.server_threads != kAutomatic) return options.server_threads;
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(cores / std::max(options.local_ranks, 1), 1) - 1;
}

// The norm is of the mean, which servers know; or of what one worker pushes, which it knows.
bool worker_clips(const Update& update, const Rules& rules) {
  return update.clip_norm > 0 && !rules.together();
}

// A norm over parameters needs all pieces of them in one step, of the same workers.
Status validate(const Update& update, const Rules& rules, const Options& options) {
  DIST_TRY(dist::validate(update));
  Update at_server = update;
  if (worker_clips(update, rules)) at_server.clip_norm = 0;
  const bool all_at_once = rules.together() && !rules.may_drop() && !options.members_change();
  if (!needs_norms(at_server) || all_at_once) return {};
  return Status::invalid_argument(fmt::format(
      "{} needs the norm of whole gradients, and here the pieces of one are applied or dropped one "
      "by one; choose staleness 0 without backup workers or a changing membership, or ring",
      at_server.clip_norm > 0     ? "clip_norm"
      : at_server.skip_not_finite ? "skip_not_finite"
                                  : "optimizer lars"));
}

class ParameterServer final : public Strategy {
 public:
  ParameterServer(World& world, Arena& arena, const Roles& roles, const Rules& rules,
                  std::shared_ptr<const ShardMap> map)
      : progress_(world.progress()),
        options_(world.options()),
        log_(world.log()),
        trace_(world.trace()),
        arena_(arena),
        roles_(roles),
        rules_(rules),
        map_(std::move(map)),
        rank_(world.rank()),
        tracker_(map_->buckets),
        arrivals_(std::make_shared<Arrivals>(map_->pieces.size())) {}

  // Half-way, messages are still on their way into memory that goes now.
  ~ParameterServer() override {
    if (!begun_ || ended_) return;
    progress_.cancel(Status::cancelled(
        fmt::format("{}: the strategy was destroyed before its end()", rules_.strategy_name)));
  }

  Status prepare(const Options& options, Update update) {
    const auto packing = Packing::from(options);
    DIST_TRY(packing);
    packs_ = packing->push != Compression::none || packing->pull != Compression::none;
    const auto hash = hash_ = layout_hash(arena_, *map_, roles_, rules_, *packing, update);
    if (worker_clips(update, rules_)) clip_norm_ = std::exchange(update.clip_norm, 0);
    if (const int server = roles_.server_of(rank_); server >= 0) {
      ServerOptions chosen;
      chosen.roles = roles_;
      chosen.server = server;
      chosen.map = map_;
      chosen.rules = rules_;
      chosen.update = update;
      chosen.layout_hash = hash;
      chosen.timeout = options.timeout;
      chosen.priority = options.priority;
      chosen.threads = server_threads(options);
      chosen.packing = *packing;
      chosen.membership = {options.elastic, options.drops_lost_workers(), options.min_workers,
                           options.connect_timeout};
      chosen.log = &log_;
      auto made = Server::create(std::move(chosen), arena_, trace_);
      DIST_TRY(made);
      server_ = *std::move(made);
    }
    if (worker() >= 0) {
      WorkerOptions chosen{roles_, worker(), map_, rules_.strategy_name, hash, options.timeout};
      chosen.priority = options.priority;
      chosen.packing = *packing;
      worker_ = std::make_shared<Worker>(std::move(chosen), arena_, trace_, server_);
      DIST_TRY(worker_->prepare());
    }
    return {};
  }

  std::string_view name() const override { return rules_.strategy_name; }
  int workers() const override { return roles_.workers; }
  int worker() const override { return roles_.worker_of(rank_); }

  std::uint64_t next_step() const override { return first_step_ + step_; }

  Status begin() override {
    DIST_ASSERT(!begun_, "begin() is called once");
    begun_ = true;
    DIST_TRY_BECAUSE(resume(), rules_.strategy_name);
    DIST_TRY_BECAUSE(meet_on_host(), rules_.strategy_name);
    if (server_) serving_ = progress_.submit(Server::make_task(server_));
    if (!worker_) return {};
    DIST_TRY(progress_.run(worker_->make_hello()));
    if (worker() == 0) DIST_TRY(progress_.run(worker_->make_initialise()));
    step_ = worker_->first_step();
    if (options_.members_change()) first_step_ = worker_->resumed_at();
    DIST_TRY(progress_.run(worker_->make_pull(step_, nullptr)));
    bytes_sent_ = progress_.counters().sent;
    return {};
  }

  void ready(std::size_t index) override {
    DIST_ASSERT(worker_ && begun_, "ready() needs a worker that has begun");
    DIST_ASSERT(!pull_, "ready() after await() needs a finish_step() before it");
    tracker_.ready(index);
    if (clip_norm_ == 0) push_full_buckets();
  }

  Status await(std::size_t index) override {
    start_pull();
    const auto [first, last] = map_->pieces_of(arena_.range(index));
    if (arrivals_->wait_until(first, last, TimePoint())) return {};
    const WaitClock clock(*this);
    while (!arrivals_->wait_until(first, last, Clock::now() + kLookForFailures)) {
      if (pull_->finished()) return with_loss(pull_->wait());
    }
    return {};
  }

  Result<StepReport> finish_step() override {
    start_pull();
    Status outcome;
    {
      // All of them before any failure is told: the tasks read the arena.
      const WaitClock clock(*this);
      outcome = pull_->wait();
      for (const Ticket& push : pushes_) {
        const Status pushed = push.wait();
        if (outcome.ok()) outcome = pushed;
      }
    }
    DIST_TRY(with_loss(outcome));
    return end_of_step();
  }

  Status join(const std::function<void()>&) override {
    DIST_ASSERT(worker_ && begun_, "join() needs a worker that has begun");
    return with_loss(progress_.run(worker_->make_final_pull(step_)));
  }

  // The final pull is answered once nobody has data.
  Result<bool> stand_by() override {
    DIST_TRY(join({}));
    return false;
  }

  Status end() override {
    DIST_ASSERT(begun_ && !ended_, "end() follows begin(), once");
    if (worker_) {
      // Before the bye: until then nobody writes to what this worker shows.
      if (host_) DIST_TRY_BECAUSE(host_->give_back_parameters(), rules_.strategy_name);
      DIST_TRY(with_loss(progress_.run(worker_->make_bye())));
    }
    if (serving_) DIST_TRY(serving_->wait());
    if (const auto refused = progress_.counters().connections_refused; server_ && refused != 0) {
      log_.info(fmt::format("{}: {}: {} connections were turned away", rules_.strategy_name,
                            server_->name(), refused));
    }
    ended_ = true;
    return {};
  }

  ServerReport server_report() const override {
    auto report = server_ ? server_->report() : ServerReport();
    report.imbalance = imbalance(*map_);
    return report;
  }

  // Worker 0 has all of its step's parameters, so in sync every server holds exactly that step.
  Result<Saving> save() override {
    DIST_ASSERT(worker_ && begun_ && !pull_ && checkpoint_sink_ != nullptr,
                "save() needs use_checkpoints(), and a worker between two steps");
    const auto step = first_step_ + step_;
    Saving saving{step, map_->owners_below(map_->servers())};
    if (keeps_held_back()) {
      const int shard = saving.shards + worker();
      saving.shards += roles_.workers;
      checkpoint::Snapshot snapshot(step, shard, saving.shards);
      checkpoint::add_held_back(&snapshot, checkpoint::held_back_by(worker()), whole(), step,
                                worker_->held_back());
      checkpoint_sink_->accept(std::move(snapshot));
    }
    if (worker() == 0 || options_.members_change()) {
      DIST_TRY(with_loss(progress_.run(worker_->make_save(step_, step))));
    }
    return saving;
  }

 private:
  Status resume() {
    if (server_) DIST_TRY(server_->use_checkpoints(checkpoint_sink_, checkpoint_source_));
    if (checkpoint_source_ == nullptr) return {};
    first_step_ = checkpoint_source_->step();
    if (worker() == 0) {
      DIST_TRY_BECAUSE(checkpoint_source_->read(whole(), 0, arena_.parameters(whole())), "resume");
    }
    if (!worker_ || !keeps_held_back()) return {};
    return checkpoint::load_held_back(*checkpoint_source_, checkpoint::held_back_by(worker()),
                                      whole(), worker_->held_back());
  }

  Range whole() const { return {0, arena_.elems().value}; }

  // Where all workers save after the same step.
  bool keeps_held_back() const {
    return rules_.together() && !rules_.may_drop() && !options_.members_change() &&
           !worker_->held_back().of(whole()).empty();
  }

  // Time that the training thread waits.
  class WaitClock {
   public:
    explicit WaitClock(ParameterServer& owner) : owner_(owner) {}
    ~WaitClock() {
      const auto end = Clock::now();
      owner_.waited_ += end - begin_;
      owner_.trace_.record(Activity::wait, "wait for parameters", begin_, end);
    }
    WaitClock(const WaitClock&) = delete;
    WaitClock& operator=(const WaitClock&) = delete;

   private:
    ParameterServer& owner_;
    const TimePoint begin_ = Clock::now();
  };

  // Where all ranks are on one host, and talk over its memory anyway.
  Status meet_on_host() {
    const auto transport = progress_.transport().name();
    if (options_.ranks == 1 || !options_.one_host || options_.ranks_per_host != 0 ||
        transport == "tcp") {
      return {};
    }
    const bool wanted = options_.share_parameters && !packs_ &&
                        arena_.gradient_memory().shareable() &&
                        arena_.parameter_memory().shareable();
    auto met = HostMemory::meet(progress_, options_, arena_, wanted,
                                !rules_.applies_while_replying(), hash_);
    const auto code = met.status().code();
    if (code == ErrorCode::unavailable || code == ErrorCode::invalid_argument) {
      log_.info(fmt::format("{}: gradients and parameters go over {}: {}", rules_.strategy_name,
                            transport, met.status().message()));
      return {};
    }
    DIST_TRY(met);
    host_ = *std::move(met);
    if (server_) server_->use_host_memory(*host_);
    if (worker_) worker_->use_host_memory();
    for (const Piece& piece : map_->pieces) {
      if (piece.server == roles_.server_of(rank_)) continue;
      read_by_others_ += bytes_of(Elems(piece.range.elems()), arena_.dtype());
    }
    return {};
  }

  // What others read out of this rank's arena in a step, and what its server wrote to theirs.
  Bytes bytes_in_place() {
    if (!host_) return {};
    const auto placed = server_ ? server_->bytes_placed() : Bytes();
    return read_by_others_ + (placed - std::exchange(bytes_placed_, placed));
  }

  // A job that ends before its time loses what was updated since its last checkpoint: as far as
  // this worker has been given it.
  Status with_loss(const Status& failure) const {
    if (failure.code() != ErrorCode::peer_lost) return failure;
    const auto kept = checkpoint_sink_ == nullptr ? nullptr : checkpoint_sink_->newest();
    std::uint64_t lost = 0;
    for (std::size_t id = 0; id < map_->pieces.size(); ++id) {
      const auto given = worker_->versions()[id];
      const auto safe = kept == nullptr ? 0 : kept->version(map_->pieces[id].range);
      lost = std::max(lost, given - std::min(safe, given));
    }
    return {
        failure.code(),
        fmt::format("{}; {} versions are lost{}, {}", failure.message(), lost,
                    options_.drops_lost_workers() ? " unless the servers go on" : "",
                    kept == nullptr ? "there is no complete checkpoint"
                                    : fmt::format("the last complete checkpoint is that of step {}",
                                                  kept->step()))};
  }

  void push_full_buckets() {
    while (const auto bucket = tracker_.next_full()) {
      pushes_.push_back(progress_.submit(worker_->make_push(*bucket, step_)));
    }
  }

  // Only now: the backward pass has read the parameters for the last time.
  void start_pull() {
    if (pull_) return;
    DIST_ASSERT(worker_ && begun_, "a step needs a worker that has begun");
    if (clip_norm_ != 0) {
      clip(arena_.gradients(whole()), arena_.dtype(), clip_norm_);
      push_full_buckets();
    }
    DIST_ASSERT(tracker_.step_complete(), "the step ended before every parameter was ready");
    arrivals_->begin_step();
    pull_ = progress_.submit(worker_->make_pull(step_ + 1, arrivals_));
  }

  StepReport end_of_step() {
    StepReport report;
    report.step = rules_.may_drop() ? newest_step() : first_step_ + step_;
    report.staleness = arrivals_->staleness();
    report.communication_exposed = std::exchange(waited_, Duration(0));
    report.communication_busy = busy_time(*pull_);
    const auto sent = progress_.counters().sent;
    report.bytes_sent = sent - std::exchange(bytes_sent_, sent) + bytes_in_place();
    const Bytes saved = worker_->saved();
    report.compression_saved = saved - std::exchange(saved_, saved);
    const Duration packing = worker_->packer().time();
    report.compression = packing - std::exchange(packing_, packing);
    report.algorithm = !host_                       ? "messages"
                       : host_->shares_parameters() ? "in place, one copy of parameters"
                                                    : "in place";
    if (host_ && host_->shares_parameters()) {
      report.memory_saved =
          saved_by_sharing(Bytes(arena_.parameter_memory().bytes().size()), options_.ranks);
    }
    pushes_.clear();
    pull_.reset();
    tracker_.begin_step();
    ++step_;
    return report;
  }

  // The newest step that is in all of the parameters; the servers leave behind who is late.
  std::uint64_t newest_step() const {
    const auto& versions = worker_->versions();
    return versions.empty() ? step_ : *std::min_element(versions.begin(), versions.end()) - 1;
  }

  // Time in which a push or the pull was under way.
  Duration busy_time(const Ticket& pull) const {
    std::vector<std::pair<TimePoint, TimePoint>> spans{{pull.started(), pull.ended()}};
    for (const Ticket& push : pushes_) spans.emplace_back(push.started(), push.ended());
    std::sort(spans.begin(), spans.end());
    Duration total{0};
    TimePoint until;
    for (const auto& [begin, end] : spans) {
      total += std::max(end, until) - std::max(begin, until);
      until = std::max(end, until);
    }
    return total;
  }

  Progress& progress_;
  const Options& options_;
  const Log& log_;
  Trace& trace_;
  Arena& arena_;
  const Roles roles_;
  const Rules rules_;
  const std::shared_ptr<const ShardMap> map_;
  const Rank rank_;
  BucketTracker tracker_;
  std::uint64_t hash_ = 0;
  bool packs_ = false;                // something of what travels is compressed
  double clip_norm_ = 0;              // not 0: of this worker's gradient, before it is pushed
  std::unique_ptr<HostMemory> host_;  // before who uses it
  Bytes read_by_others_;              // in place, out of this rank's arena in a step
  std::shared_ptr<Server> server_;
  std::shared_ptr<Worker> worker_;
  std::optional<Ticket> serving_;
  std::vector<Ticket> pushes_;  // of this step
  Bytes bytes_sent_;            // all four before this step
  Bytes saved_;
  Duration packing_{0};
  Bytes bytes_placed_;
  std::uint64_t step_ = 0;        // since begin()
  std::uint64_t first_step_ = 0;  // before it, where the job was resumed
  std::optional<Ticket> pull_;    // of this step, from its first await() on
  const std::shared_ptr<Arrivals> arrivals_;
  Duration waited_{0};  // in this step
  bool begun_ = false;
  bool ended_ = false;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_strategy(Mode mode, World& world, Arena& arena,
                                                Update update) {
  const Options& options = world.options();
  const Rules rules = Rules::from(mode, options);
  if (!updates_parameters(update.rule)) {
    return Status::invalid_argument(
        fmt::format("{}: the rule mean-gradient leaves the update to the program, but here it "
                    "happens at the server; choose sgd, momentum, ... or the strategy ring",
                    rules.strategy_name));
  }
  if (options.members_change() && (options.placement != Placement::dedicated ||
                                   !world.progress().transport().capabilities().losable_peers)) {
    return Status::invalid_argument(
        fmt::format("{}: elastic and on-worker-loss=drop need the transport tcp and "
                    "placement=dedicated; this world has {} and {} servers",
                    rules.strategy_name, world.transport_name(),
                    options.placement == Placement::dedicated ? "dedicated" : "colocated"));
  }
  if (options.drops_lost_workers() && rules.may_drop()) {
    return Status::invalid_argument(fmt::format(
        "{}: backup-workers where workers may be lost is not supported: a step would not know "
        "whom it does without; choose on-worker-loss=stop, or backup-workers=0",
        rules.strategy_name));
  }
  const auto roles = make_roles(world.ranks(), options.servers, options.placement);
  DIST_TRY_BECAUSE(roles, rules.strategy_name);
  DIST_TRY_BECAUSE(rules.check(roles->workers, name_of(update.rule), options.deterministic),
                   rules.strategy_name);
  DIST_TRY_BECAUSE(validate(update, rules, options), rules.strategy_name);
  auto map = std::make_shared<const ShardMap>(
      make_shard_map(make_buckets(arena, {options.bucket_bytes, options.first_bucket_bytes}),
                     {.servers = roles->servers, .dtype = arena.dtype()}));
  auto strategy = std::make_unique<ParameterServer>(world, arena, *roles, rules, std::move(map));
  DIST_TRY_BECAUSE(strategy->prepare(options, update), rules.strategy_name);
  return std::unique_ptr<Strategy>(std::move(strategy));
}

}  // namespace dist::ps
