// SPDX-License-Identifier: Apache-2.0
// All ranks in one thread over a network that ends every operation as late and in as odd an order
// as it may, and that watches the memory of operations in flight.
#include <algorithm>
#include <functional>
#include <memory>
#include <random>

#include "ps/server.h"
#include "ps/worker.h"
#include "tests/support/catch.h"
#include "tests/support/memory_transport.h"

namespace {

using namespace dist;
using namespace dist::ps;

constexpr std::uint64_t kSteps = 4;

struct Shape {
  int workers;
  int servers;
  Placement placement;
  Rules rules;
  Bytes staging;       // of a worker at a server; none: one buffer, the most waiting
  bool norms = false;  // servers need those of each other, which change nothing here

  Roles roles() const { return {workers, servers, placement}; }
  int ranks() const { return placement == Placement::colocated ? workers : workers + servers; }
};

Arena make_arena() { return Arena::create({{"a", Elems(33)}, {"b", Elems(16)}}).value(); }

// One rank: its tasks, advanced side by side as the progress thread does, and its training loop as
// a list of phases.
class OneRank {
 public:
  OneRank(const Shape& shape, Rank rank, Transport& transport, std::shared_ptr<const ShardMap> map)
      : rank_(rank), transport_(transport), map_(std::move(map)) {
    const auto roles = shape.roles();
    if (roles.server_of(rank) >= 0) {
      Update update = Sgd{.learning_rate = -1};
      if (shape.norms) update.clip_norm = 1e30;
      ServerOptions options{.roles = roles,
                            .server = roles.server_of(rank),
                            .map = map_,
                            .rules = shape.rules,
                            .update = std::move(update),
                            .staging_per_worker = shape.staging};
      server_ = Server::create(std::move(options), arena_, trace_).value();
      serving_ = Server::make_task(server_);
    }
    if (roles.worker_of(rank) < 0) return;
    worker_ = std::make_shared<Worker>(WorkerOptions{.roles = roles,
                                                     .worker = rank,
                                                     .map = map_,
                                                     .strategy_name = "test",
                                                     .staging_per_worker = shape.staging},
                                       arena_, trace_, server_);
    plan_phases();
  }

  /// Between its last gradient and the step that shows the outcome.
  bool trained() const { return next_phase_ > gate_ || (next_phase_ == gate_ && idle()); }
  bool ended() const { return !serving_ && idle() && next_phase_ == phases_.size(); }

  /// Lets one task take a turn, or the training loop go on if its tasks are done.
  void turn(unsigned choice, bool all_trained) {
    const bool held = next_phase_ == gate_ && !all_trained;
    if (idle() && next_phase_ < phases_.size() && !held) return phases_[next_phase_++]();
    if (!serving_ && tasks_.empty()) return;
    const auto count = tasks_.size() + (serving_ ? 1 : 0);
    advance(choice % count);
  }

  std::vector<float> values() const {
    std::vector<float> out;
    for (std::size_t p = 0; p < arena_.parameter_count(); ++p) {
      const auto span = arena_.parameter_span<float>(p);
      out.insert(out.end(), span.begin(), span.end());
    }
    return out;
  }
  bool works() const { return worker_ != nullptr; }
  ServerReport report() const { return server_ ? server_->report() : ServerReport(); }

 private:
  void plan_phases() {
    phases_.push_back([this] { submit(worker_->make_hello()); });
    if (rank_ == 0) phases_.push_back([this] { submit(worker_->make_initialise()); });
    phases_.push_back([this] { submit(worker_->make_pull(0, nullptr)); });
    for (std::uint64_t step = 0; step <= kSteps; ++step) {
      // The last step changes nothing and shows what all the others have done.
      if (step == kSteps) gate_ = phases_.size();
      const float gradient = step == kSteps ? 0.0f : static_cast<float>(rank_ + 1);
      phases_.push_back([this, step, gradient] { train(step, gradient); });
    }
    phases_.push_back([this] { submit(worker_->make_bye()); });
  }

  void train(std::uint64_t step, float gradient) {
    for (std::size_t p = 0; p < arena_.parameter_count(); ++p) {
      for (float& g : arena_.gradient_span<float>(p)) g = gradient;
    }
    for (std::size_t b = 0; b < map_->buckets.size(); ++b) submit(worker_->make_push(b, step));
    submit(worker_->make_pull(step + 1, nullptr));
  }

  // Tasks start in the order of submission, as in Progress.
  void submit(std::unique_ptr<Task> task) {
    tasks_.push_back(std::move(task));
    advance(tasks_.size() - 1);
  }

  // The worker's tasks, then the server.
  void advance(std::size_t at) {
    auto& task = at < tasks_.size() ? tasks_[at] : serving_;
    const auto result = task->advance(transport_);
    REQUIRE_OK(result);
    if (*result != Advance::finished) return;
    if (at < tasks_.size()) {
      tasks_.erase(tasks_.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      serving_.reset();
    }
  }

  bool idle() const { return tasks_.empty(); }

  const Rank rank_;
  Transport& transport_;
  const std::shared_ptr<const ShardMap> map_;
  Arena arena_ = make_arena();
  Trace trace_{0, false};
  std::shared_ptr<Server> server_;
  std::shared_ptr<Worker> worker_;
  std::unique_ptr<Task> serving_;
  std::vector<std::unique_ptr<Task>> tasks_;  // of the worker
  std::vector<std::function<void()>> phases_;
  std::size_t next_phase_ = 0;
  std::size_t gate_ = 0;
};

Rules rules_of(Mode mode, std::uint64_t staleness, int backups = 0) {
  Options options;
  options.staleness = staleness;
  options.backup_workers = backups;
  return Rules::from(mode, options);
}

// Which gradients were dropped is chance; each was dealt with once.
void check_counts(const std::vector<std::unique_ptr<OneRank>>& ranks, const Shape& shape,
                  std::size_t pieces) {
  std::uint64_t counted = 0;
  for (const auto& rank : ranks) {
    REQUIRE(rank->report().doubled == 0);
    counted += rank->report().applied + rank->report().dropped;
  }
  REQUIRE(counted == pieces * (kSteps + 1) * static_cast<std::uint64_t>(shape.workers));
}

// All elements of all workers in the end: initial values, and what all workers pushed.
void check(const std::vector<std::unique_ptr<OneRank>>& ranks, const Shape& shape) {
  const float pushed = static_cast<float>(kSteps * static_cast<std::uint64_t>(shape.workers) *
                                          (static_cast<std::uint64_t>(shape.workers) + 1) / 2);
  const bool mean = shape.rules.together();
  const float expected = mean ? pushed / static_cast<float>(shape.workers) : pushed;
  for (const auto& rank : ranks) {
    if (!rank->works()) continue;
    for (const float value : rank->values()) REQUIRE(value == expected);
  }
}

void run(const Shape& shape, unsigned seed) {
  test::MemoryNetwork network(shape.ranks(), seed);
  const auto arena = make_arena();
  // One piece, where a whole step fits into the ending of one send; or many.
  const bool whole = seed % 2 == 0;
  const auto map = std::make_shared<const ShardMap>(make_shard_map(
      make_buckets(arena, {.bucket_bytes = 64_B, .first_bucket_bytes = whole ? 1_MiB : 64_B}),
      {.servers = shape.servers,
       .min_piece = whole ? 1_MiB : 16_B,
       .max_piece = whole ? 1_MiB : 24_B}));
  std::vector<std::unique_ptr<OneRank>> ranks;
  for (Rank r = 0; r < shape.ranks(); ++r) {
    ranks.push_back(std::make_unique<OneRank>(shape, r, network.endpoint(r), map));
  }
  std::mt19937 random(seed);
  const auto ended = [](const auto& rank) { return rank->ended(); };
  for (int turns = 0; !std::all_of(ranks.begin(), ranks.end(), ended); ++turns) {
    REQUIRE(turns < 1'000'000);  // somebody waits for ever
    // Who waits for others outside of the steps may not have backups: they do not wait for it.
    const bool all_trained =
        shape.rules.may_drop() ||
        std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank->trained(); });
    if (random() % 3 != 0) network.step();
    ranks[random() % ranks.size()]->turn(random(), all_trained);
  }
  REQUIRE(network.breaches().empty());
  if (shape.rules.may_drop()) return check_counts(ranks, shape, map->pieces.size());
  check(ranks, shape);
}

TEST_CASE("no order of events loses a gradient, waits for ever or touches memory in flight") {
  const std::vector<Rules> policies = {
      rules_of(Mode::sync, 0),    rules_of(Mode::sync, 0, 1),
      rules_of(Mode::sync, 0, 2), rules_of(Mode::async, 0),
      rules_of(Mode::async, 1),   rules_of(Mode::async, kUnlimitedStaleness),
  };
  for (const Rules& rules : policies) {
    for (const auto placement : {Placement::colocated, Placement::dedicated}) {
      for (const int workers : {1, 2, 3}) {
        if (!rules.check(workers, "sgd", false).ok()) continue;
        for (const int servers : {1, 2, 3}) {
          if (placement == Placement::colocated && servers > workers) continue;
          for (unsigned seed = 0; seed < 6; ++seed) {
            INFO(rules.describe() << ", " << workers << " workers, " << servers
                                  << (placement == Placement::colocated ? " colocated"
                                                                        : " dedicated")
                                  << " servers, seed " << seed);
            // One buffer, or room for pieces that overtake others.
            const Bytes staging(seed < 3 ? 0 : 72);
            run({workers, servers, placement, rules, staging}, seed);
            const bool norms = rules.together() && !rules.may_drop();
            if (norms) run({workers, servers, placement, rules, staging, true}, seed);
          }
        }
      }
    }
  }
}

}  // namespace
