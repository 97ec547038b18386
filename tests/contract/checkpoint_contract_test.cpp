// SPDX-License-Identifier: Apache-2.0
// What every strategy promises of checkpoints: a job that resumes has the bits of one that was
// never disturbed; with other ranks, servers or buckets it has the same parameters and state.
#include <fmt/format.h>

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "libdist/checkpoint/reader.h"
#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

struct Case {
  std::string name;
  int ranks = 1;
  Placement placement = Placement::colocated;
  int servers = 0;
  std::string algorithm = "ring";
  bool share_parameters = true;
  bool shard_optimizer = false;
  int ranks_per_host = 0;
  std::uint64_t bucket_bytes = 256;
  std::string compress = "none";
};

const Case kLocal{"none"};
const Case kRing{"ring", 2};
const Case kSharded{"ring", 3, Placement::colocated, 0, "ring", true, true};
const Case kSweep{"ring", 3, Placement::colocated, 0, "sweep"};
const Case kApart{"ring", 2, Placement::colocated, 0, "sweep", false};
const Case kHosts{"ring", 4, Placement::colocated, 0, "hierarchical", true, false, 2};
const Case kSync{"sync-ps", 3};
const Case kOneServer{"sync-ps", 2, Placement::colocated, 1};
const Case kDedicated{"sync-ps", 4, Placement::dedicated, 2};
const Case kBounded{"async-ps", 2};  // with staleness 0

const std::vector<Case> kCases = {kLocal, kRing, kSharded,   kSweep,     kApart,
                                  kHosts, kSync, kOneServer, kDedicated, kBounded};

std::string describe(const Case& chosen) {
  return fmt::format("{} {}{}, {} servers, {} ranks", chosen.name, chosen.algorithm,
                     chosen.placement == Placement::dedicated ? " dedicated" : "", chosen.servers,
                     chosen.ranks);
}

Options options_for(const Case& chosen) {
  Options options;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = Bytes(chosen.bucket_bytes);
  options.segment_bytes = 48_B;
  options.placement = chosen.placement;
  options.servers = chosen.servers;
  options.algorithm = chosen.algorithm;
  options.share_parameters = chosen.share_parameters;
  options.shard_optimizer = chosen.shard_optimizer;
  options.ranks_per_host = chosen.ranks_per_host;
  options.staleness = 0;
  options.timeout = std::chrono::seconds(60);
  options.compress = chosen.compress;
  options.compress_at_least = 1_B;
  return options;
}

Arena make_arena() {
  std::vector<Parameter> list;
  for (const std::uint64_t elems : {5, 1, 1, 37, 9000, 3, 64, 1}) {
    list.push_back({fmt::format("p{}", list.size()), Elems(elems)});
  }
  return Arena::create(std::move(list)).value();
}

// Sums of these depend on the order; `still`: zeros, and only the velocity moves the parameters.
void backward(Strategy& strategy, const Arena& arena, std::uint64_t step, bool still) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    const auto span = arena.gradient_span<float>(p);
    for (std::size_t i = 0; i < span.size(); ++i) {
      const auto mixed =
          (i * 7919 + static_cast<std::size_t>(strategy.worker()) * 104729 + step * 31) % 999;
      span[i] = still ? 0 : (static_cast<float>(mixed) - 499) / 3 * (i % 3 == 0 ? 1e-3f : 1e3f);
    }
    strategy.ready(p);
  }
}

struct Plan {
  std::string directory = {};  // "": without checkpoints
  bool resume = false;
  std::uint64_t steps = 0;    // train up to here
  std::uint64_t save_at = 0;  // 0: never
  bool still = false;
  UpdateRule rule = Momentum{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3};
};

// Trains; worker 0's parameters at the end, in the order of the arena.
std::vector<float> train(const Case& chosen, const Plan& plan) {
  std::mutex mutex;
  std::vector<float> result;
  const auto body = [&](World& world) {
    auto arena = make_arena();
    std::unique_ptr<Checkpoints> checkpoints;
    if (!plan.directory.empty()) {
      const auto all = make_group(world).value();
      checkpoints = Checkpoints::open(*all, arena, name_of(plan.rule),
                                      {.directory = plan.directory, .resume = plan.resume})
                        .value();
    }
    auto strategy = make_strategy(chosen.name, world, arena, plan.rule).value();
    if (checkpoints) checkpoints->attach(*strategy);
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      for (float& value : arena.parameter_span<float>(p)) value = static_cast<float>(p) / 4;
    }
    expect_ok(strategy->begin());
    const auto first = checkpoints ? checkpoints->first_step() : 0;
    expect(strategy->worker() < 0 || strategy->next_step() == first, "next_step()");
    for (auto step = first; strategy->worker() >= 0 && step < plan.steps; ++step) {
      backward(*strategy, arena, step, plan.still);
      const auto report = strategy->finish_step();
      expect_ok(report.status());
      expect(report->step == step, "StepReport::step goes on");
      if (step + 1 == plan.save_at) expect_ok(checkpoints->save(*strategy, {{"cursor", "x"}}));
    }
    expect_ok(strategy->end());
    if (checkpoints) expect_ok(checkpoints->wait());
    if (strategy->worker() != 0) return;
    const std::lock_guard lock(mutex);
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      const auto span = arena.parameter_span<float>(p);
      result.insert(result.end(), span.begin(), span.end());
    }
  };
  REQUIRE_NOTHROW(test::run_ranks("shm", chosen.ranks, body, options_for(chosen)));
  return result;
}

void check_resume(const Case& chosen, const UpdateRule& rule) {
  INFO(describe(chosen) << ", " << name_of(rule));
  const auto undisturbed = train(chosen, {.steps = 6, .rule = rule});
  const test::ScratchFolder scratch;
  Plan plan{.directory = scratch.path("c"), .steps = 6, .save_at = 3, .rule = rule};
  // The job goes on after its checkpoint, and what it did then is lost.
  CHECK(train(chosen, plan) == undisturbed);
  plan.resume = true;
  plan.save_at = 5;
  CHECK(train(chosen, plan) == undisturbed);
  // And again, from the second job's.
  CHECK(train(chosen, plan) == undisturbed);
}

TEST_CASE("a resumed job has the bits of an undisturbed one") {
  for (const Case& chosen : kCases) check_resume(chosen, Plan().rule);
}

// Two values of state an element, and a correction that depends on the number of updates.
TEST_CASE("so it has with Adam") {
  for (const Case& chosen : {kLocal, kSharded, kSweep, kHosts, kDedicated}) {
    check_resume(chosen, Adam{.learning_rate = 0.1});
  }
}

// What was held back when the checkpoint was made is sent by the job that resumes.
TEST_CASE("so it has with compression") {
  for (Case chosen : {kRing, kSync, kDedicated, kBounded}) {
    for (const auto* method : {"bf16", "int8", "top-k", "one-bit"}) {
      chosen.compress = method;
      if (chosen.name == "ring" && chosen.compress != "int8") continue;
      INFO(method);
      check_resume(chosen, Plan().rule);
    }
  }
}

TEST_CASE("another world leaves what compression held back where it does not fit") {
  const test::ScratchFolder scratch;
  Case chosen = kSync;
  chosen.compress = "int8";
  train(chosen, {.directory = scratch.path("c"), .steps = 3, .save_at = 3});
  const Plan plan{.directory = scratch.path("c"), .resume = true, .steps = 5, .still = true};
  const auto expected = train(kSync, plan);
  for (Case reader : {kRing, kLocal, kDedicated, kOneServer}) {
    INFO(describe(reader));
    CHECK(train(reader, plan) == expected);
    if (reader.name == "sync-ps") reader.compress = "int8";
    CHECK(train(reader, plan).size() == expected.size());
  }
}

TEST_CASE("any world resumes from any other's: parameters and state, bit by bit") {
  for (const Case& writer : {kLocal, kSharded, kHosts, kDedicated}) {
    const test::ScratchFolder scratch;
    train(writer, {.directory = scratch.path("c"), .steps = 3, .save_at = 3});
    const Plan plan{.directory = scratch.path("c"), .resume = true, .steps = 5, .still = true};
    const auto expected = train(writer, plan);
    for (Case reader : kCases) {
      reader.bucket_bytes = 1000;
      INFO(describe(writer) << " -> " << describe(reader));
      CHECK(train(reader, plan) == expected);
    }
  }
}

// Pushes of ones: an element's value is the number of updates it has had.
void push_ones(World& world, const CheckpointOptions& where, std::uint64_t steps) {
  auto arena = Arena::create({{"a", Elems(30000)}}).value();
  const auto all = make_group(world).value();
  auto checkpoints = Checkpoints::open(*all, arena, "sgd", where).value();
  auto strategy = make_strategy("async-ps", world, arena, Sgd{.learning_rate = 1}).value();
  checkpoints->attach(*strategy);
  expect_ok(strategy->begin());
  const auto values = arena.parameter_span<float>(0);
  // Others may have pushed since.
  for (const float value : values) {
    expect(value >= static_cast<float>(checkpoints->version()), "versions go on");
  }
  for (std::uint64_t s = 0; s < steps; ++s) {
    for (float& g : arena.gradient_span<float>(0)) g = -1;
    strategy->ready(0);
    expect_ok(strategy->finish_step().status());
    if (s + 1 == steps / 2) expect_ok(checkpoints->save(*strategy));
  }
  expect_ok(strategy->end());
  expect_ok(checkpoints->wait());
}

TEST_CASE("async: a checkpoint holds whole pieces, each with its version, and versions go on") {
  const test::ScratchFolder scratch;
  auto options = options_for({"async-ps", 3});
  options.staleness = kUnlimitedStaleness;
  const auto files = checkpoint::make_system_files();
  const auto layout = checkpoint::Layout::of(Arena::create({{"a", Elems(30000)}}).value(), "sgd");
  std::uint64_t version = 0;
  for (const auto* newest : {"step-000010", "step-000020"}) {
    const CheckpointOptions where{.directory = scratch.path("c"), .resume = version > 0};
    REQUIRE_NOTHROW(test::run_ranks(
        "shm", 3, [&](World& world) { push_ones(world, where, 20); }, options));
    const auto reader = checkpoint::Reader::open(*files, scratch.path("c/") + newest).value();
    REQUIRE_OK(reader->fit(layout));
    std::vector<float> values(30000);
    REQUIRE_OK(reader->read({0, 30000}, 0, std::as_writable_bytes(std::span(values))));
    for (std::uint64_t i = 0; i < values.size(); i += 10) {
      REQUIRE(values[i] == static_cast<float>(reader->version({i, i + 1})));
    }
    const auto before = std::exchange(version, reader->version({0, 30000}));
    CHECK(version >= before + 10);
    CHECK(version <= before + 60);
  }
}

TEST_CASE("refusals") {
  const test::ScratchFolder scratch;
  train(kRing, {.directory = scratch.path("c"), .steps = 1, .save_at = 1});
  const auto refusal = [&](const CheckpointOptions& options, std::string_view rule,
                           const Arena& arena) {
    std::mutex mutex;
    std::vector<std::string> stories(2);
    test::run_ranks("shm", 2, [&](World& world) {
      const auto all = make_group(world).value();
      const auto opened = Checkpoints::open(*all, arena, rule, options);
      const std::lock_guard lock(mutex);
      stories[static_cast<std::size_t>(world.rank())] = opened.status().message();
    });
    return stories;
  };
  const auto both = [](const std::string& story) { return std::vector{story, story}; };
  CHECK(refusal({.directory = scratch.path("c")}, "momentum", make_arena()) ==
        std::vector<std::string>{
            "checkpoint -> " + scratch.path("c") +
                " has checkpoints of an earlier job, the newest is step-000001: resume from it, or "
                "choose another directory",
            "checkpoint: rank 0 cannot use the directory; its message says why"});
  CHECK(refusal({.directory = scratch.path("c"), .resume = true}, "sgd", make_arena()) ==
        both("checkpoint -> " + scratch.path("c") +
             "/step-000001 does not fit this job: the update rule is momentum there and sgd here"));
  CHECK(refusal({.directory = scratch.path("no/c")}, "sgd", make_arena())[0].find(
            "cannot make the directory") != std::string::npos);
  const auto replayed = Arena::create({{"a", Elems(1)}}, {.alias_window = 4_KiB}).value();
  CHECK(refusal({.directory = scratch.path("d")}, "sgd", replayed) ==
        both("checkpoint: a replay's parameters mean nothing; there is nothing to save"));
}

TEST_CASE("none with several ranks has no one set of parameters to save") {
  const test::ScratchFolder scratch;
  test::run_ranks("shm", 2, [&](World& world) {
    auto arena = Arena::create({{"a", Elems(1)}}).value();
    const auto all = make_group(world).value();
    auto checkpoints =
        Checkpoints::open(*all, arena, "sgd", {.directory = scratch.path("c")}).value();
    auto strategy = make_strategy("none", world, arena, Sgd{}).value();
    checkpoints->attach(*strategy);
    expect_ok(strategy->begin());
    expect(checkpoints->save(*strategy).code() == ErrorCode::invalid_argument, "refused");
  });
}

}  // namespace
