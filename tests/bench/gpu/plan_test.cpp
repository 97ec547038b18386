// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/plan.h"

#include <algorithm>
#include <set>

#include "tests/bench/gpu/facts.h"
#include "tests/support/catch.h"

namespace dist::bench::gpu {
namespace {

PlanInput five_models() {
  PlanInput input;
  for (const char* name : {"resnet50", "vgg16", "inception_v4", "resnet152", "vgg19"}) {
    input.models.push_back(test::small_model(name));
  }
  input.memory_gib = 140;
  return input;
}

const Section& section_of(const std::vector<Section>& plan, const std::string& name) {
  const auto found = std::ranges::find(plan, name, &Section::name);
  REQUIRE(found != plan.end());
  return *found;
}

}  // namespace

TEST_CASE("sections end one after the other, the last one with the budget, under nine minutes") {
  const auto plan = make_plan(five_models());
  REQUIRE(plan.size() == section_names().size());
  double before = 0;
  for (std::size_t i = 0; i < plan.size(); ++i) {
    CHECK(plan[i].name == section_names()[i]);
    CHECK(plan[i].ends_at_s > before);
    before = plan[i].ends_at_s;
  }
  CHECK(before == test::Approx(525));
  // A child that is told to end has ten seconds for it.
  CHECK(before + 10 < 540);
}

TEST_CASE("what is expected to be run fits into its section on the device that it is made for") {
  const auto plan = make_plan(five_models());
  double begins = 0;
  for (const Section& section : plan) {
    double expected = 0;
    for (const Run& run : section.runs) expected += run.expected_s / 2;
    INFO(section.name);
    // A run is cut where less than half of what it needs is left; the goals' runs come first.
    if (section.name != "peers") CHECK(expected <= section.ends_at_s - begins);
    begins = section.ends_at_s;
  }
}

TEST_CASE("sections that were not asked for leave their time to the others") {
  auto input = five_models();
  input.only = {"peers", "throughput"};
  const auto plan = make_plan(input);
  REQUIRE(plan.size() == 2);
  CHECK(plan[0].name == "throughput");  // the plan's order, not the user's
  CHECK(plan[1].ends_at_s == test::Approx(525));
}

TEST_CASE("names of runs are unique: they name files") {
  std::set<std::string> names;
  std::size_t runs = 0;
  for (const Section& section : make_plan(five_models())) {
    for (const Run& run : section.runs) {
      CHECK(run.section == section.name);
      names.insert(run.name);
      ++runs;
    }
  }
  CHECK(names.size() == runs);
}

TEST_CASE("only what proves something must finish") {
  for (const Section& section : make_plan(five_models())) {
    CHECK(section.must_finish ==
          (section.name == "tests" || section.name == "curves" || section.name == "ranks"));
  }
}

TEST_CASE("several ranks: two transports, three strategies, two and four ranks") {
  const auto plan = make_plan(five_models());
  const Section& section = section_of(plan, "ranks");
  CHECK(section.runs.size() == 2 * 3 * 2);
  CHECK(std::ranges::count(section.runs, 4, &Run::ranks) == 6);
  CHECK(std::ranges::count(section.runs, "shm", &Run::transport) == 6);
}

TEST_CASE("curves: one training, on the host and in every precision") {
  const auto plan = make_plan(five_models());
  const auto& runs = section_of(plan, "curves").runs;
  REQUIRE(runs.size() == 5);
  CHECK(runs[0].backend.empty());
  for (const Run& run : runs) {
    CHECK(run.steps == 50);
    CHECK(run.batch == runs[0].batch);
    CHECK(run.model == runs[0].model);
  }
}

TEST_CASE("throughput: what decides goals comes first") {
  const auto plan = make_plan(five_models());
  const auto& runs = section_of(plan, "throughput").runs;
  REQUIRE(runs.size() == 20);
  CHECK(runs.front().model == "resnet50");
  CHECK(runs.front().precision == "f16");
  CHECK(runs.back().model == "vgg19");
  CHECK(runs.back().precision == "f32");
}

TEST_CASE("overhead: both sides alternate and are first equally often") {
  const auto plan = make_plan(five_models());
  const auto& runs = section_of(plan, "overhead").runs;
  CHECK(std::ranges::count(runs, "none", &Run::strategy) == 2);
  CHECK(std::ranges::count(runs, "ring", &Run::strategy) == 2);
  CHECK(runs.front().strategy != runs[2].strategy);
}

TEST_CASE("peers: ours and theirs in turns with the same numbers; who begins changes") {
  const auto plan = make_plan(five_models());
  const auto& runs = section_of(plan, "peers").runs;
  const auto same = [](const Run& a, const Run& b) {
    return a.model == b.model && a.precision == b.precision && a.batch == b.batch &&
           a.steps == b.steps && a.warmup == b.warmup;
  };
  for (const Run& run : runs) {
    if (run.program == Program::trainer) continue;
    CHECK(std::ranges::any_of(runs, [&](const Run& other) {
      return other.program == Program::trainer && same(run, other);
    }));
  }
  CHECK(std::ranges::count(runs, "compile", &Run::mode) == 1);
  CHECK(std::ranges::count(runs, "bf16", &Run::precision) == 2);
  CHECK(runs.front().name == "peers-resnet50-f16-ours-0");
  CHECK(runs[2].mode == "compile");
  const auto second =
      std::ranges::find_if(runs, [](const Run& run) { return run.name.ends_with("-1"); });
  CHECK(second->program == Program::peer);
  CHECK((second + 1)->program == Program::trainer);
}

TEST_CASE("the batch is the largest power of two that fits, and no run is without one") {
  const ModelFacts model = test::small_model("m");
  CHECK(batch_for(model, "f16", 140) == 256);
  // 1.3 x 3e6 elements x 2 bytes = 7.8 MB an image; 3/4 GiB less 16 MB of parameters: 101.
  CHECK(batch_for(model, "f16", 1) == 64);
  CHECK(batch_for(model, "f32", 1) == 32);
  CHECK(batch_for(model, "f16", 0.02) == 0);
  auto input = five_models();
  input.memory_gib = 0.02;
  CHECK(section_of(make_plan(input), "throughput").runs.empty());
}

TEST_CASE("a run starts where half of its time is left, and never beyond its section") {
  Run run;
  run.expected_s = 10;
  run.limit_s = 60;
  const auto early = decide(run, 0, 300);
  CHECK(early.start);
  CHECK(early.timeout_s == 60);
  CHECK(early.may_hang);
  const auto late = decide(run, 292.5, 300);
  CHECK(late.start);
  CHECK(late.timeout_s == 7);
  CHECK_FALSE(late.may_hang);
  CHECK_FALSE(decide(run, 296, 300).start);
  CHECK_FALSE(decide(run, 301, 300).start);
  run.expected_s = 0;
  CHECK_FALSE(decide(run, 299.5, 300).start);
}

}  // namespace dist::bench::gpu
