// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

namespace dist::bench::gpu {
namespace {

constexpr int kMostBatch = 256;
constexpr double kShareOfMemory = 0.75;
constexpr double kActivationsHeld = 1.3;
constexpr double kGib = 1024.0 * 1024 * 1024;

// Parts of the budget; `must_finish` as in Section.
struct Share {
  const char* name;
  double part;
  bool must_finish;
};
constexpr Share kShares[] = {{"tests", 75, true},      {"curves", 25, true},
                             {"ranks", 65, true},      {"throughput", 130, false},
                             {"overhead", 40, false},  {"peers", 130, false},
                             {"breakdown", 30, false}, {"sanitizer", 30, false}};

double bytes_of(const std::string& precision) {
  return precision == "f16" || precision == "bf16" ? 2 : 4;
}

// The same training on the host in f32, and on the GPU in every precision.
std::vector<Run> curve_runs() {
  Run run;
  run.section = "curves";
  run.name = "curves-host";
  run.model = "small_cnn";
  run.backend = "";
  run.precision = "f32";
  run.batch = 32;
  run.steps = 50;
  run.expected_s = 5;
  run.limit_s = 60;
  std::vector<Run> runs = {run};
  for (const char* precision : {"f32", "tf32", "f16", "bf16"}) {
    run.name = fmt::format("curves-{}", precision);
    run.backend = "cudnn";
    run.precision = precision;
    runs.push_back(run);
  }
  return runs;
}

// Small images, one process after the other on the same GPU: values matter, not speed.
std::vector<Run> rank_runs() {
  std::vector<Run> runs;
  for (const int ranks : {2, 4}) {
    for (const char* transport : {"shm", "tcp"}) {
      for (const char* strategy : {"ring", "sync-ps", "async-ps"}) {
        Run run;
        run.section = "ranks";
        run.name = fmt::format("ranks-{}-{}-n{}", transport, strategy, ranks);
        run.model = "small_cnn";
        run.strategy = strategy;
        run.precision = "f32";
        run.transport = transport;
        run.ranks = ranks;
        run.batch = 16;
        run.steps = 20;
        run.warmup = 2;
        run.expected_s = 6;
        run.limit_s = 60;
        runs.push_back(run);
      }
    }
  }
  return runs;
}

Run speed_run(const char* section, const ModelFacts& model, const std::string& precision,
              double memory_gib) {
  Run run;
  run.section = section;
  run.name = fmt::format("{}-{}-{}", section, model.name, precision);
  run.model = model.name;
  run.precision = precision;
  run.batch = batch_for(model, precision, memory_gib);
  // Starting takes most of a run's time, but for f32, whose steps are an order of magnitude longer.
  run.steps = precision == "f32" ? 8 : precision == "tf32" ? 20 : 40;
  run.warmup = 5;
  run.expected_s = 8;
  run.limit_s = 120;
  return run;
}

// By precision, then by model: what is cut are the last models in f32.
std::vector<Run> throughput_runs(const PlanInput& input) {
  std::vector<Run> runs;
  for (const char* precision : {"f16", "bf16", "tf32", "f32"}) {
    for (const ModelFacts& model : input.models) {
      runs.push_back(speed_run("throughput", model, precision, input.memory_gib));
    }
  }
  return runs;
}

// Without and with the library in turns, the first of a pair being the other one each time.
std::vector<Run> overhead_runs(const PlanInput& input) {
  std::vector<Run> runs;
  if (input.models.empty()) return runs;
  for (const char* strategy : {"none", "ring", "ring", "none"}) {
    Run run = speed_run("overhead", input.models.front(), "f16", input.memory_gib);
    run.name += fmt::format("-{}-{}", strategy, runs.size());
    run.strategy = strategy;
    run.steps = 60;
    runs.push_back(run);
  }
  return runs;
}

// Ours and theirs one after the other with the same numbers; who begins changes with the round.
void add_contest(const PlanInput& input, const ModelFacts& model, const char* precision, int round,
                 std::initializer_list<const char*> modes, std::vector<Run>* runs) {
  Run ours = speed_run("peers", model, precision, input.memory_gib);
  const std::string name = ours.name;
  ours.name = fmt::format("{}-ours-{}", name, round);
  std::vector<Run> contest = {ours};
  for (const char* mode : modes) {
    Run theirs = ours;
    theirs.name = fmt::format("{}-{}-{}", name, mode, round);
    theirs.program = Program::peer;
    theirs.mode = mode;
    theirs.expected_s = std::string(mode) == "compile" ? 40 : 10;
    contest.push_back(theirs);
  }
  if (round % 2 == 1) std::reverse(contest.begin(), contest.end());
  runs->insert(runs->end(), contest.begin(), contest.end());
}

// The second round comes after the first one of all: it is what is cut.
std::vector<Run> peer_runs(const PlanInput& input) {
  std::vector<Run> runs;
  for (int round = 0; round < 2; ++round) {
    for (const ModelFacts& model : input.models) {
      if (round == 0 && model.name == "resnet50") {
        add_contest(input, model, "f16", round, {"eager", "compile"}, &runs);
        add_contest(input, model, "bf16", round, {"eager"}, &runs);
      } else {
        add_contest(input, model, "f16", round, {"eager"}, &runs);
      }
    }
  }
  return runs;
}

std::vector<Run> breakdown_runs(const PlanInput& input) {
  std::vector<Run> runs;
  for (const ModelFacts& model : input.models) {
    Run run = speed_run("breakdown", model, "f16", input.memory_gib);
    run.profile = true;
    run.steps = 10;
    runs.push_back(run);
  }
  return runs;
}

std::vector<Run> runs_of(const std::string& section, const PlanInput& input) {
  std::vector<Run> runs;
  if (section == "curves") runs = curve_runs();
  if (section == "ranks") runs = rank_runs();
  if (section == "throughput") runs = throughput_runs(input);
  if (section == "overhead") runs = overhead_runs(input);
  if (section == "peers") runs = peer_runs(input);
  if (section == "breakdown") runs = breakdown_runs(input);
  std::erase_if(runs, [](const Run& run) { return run.batch == 0; });
  return runs;
}

}  // namespace

const std::vector<std::string>& section_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Share& share : kShares) all.emplace_back(share.name);
    return all;
  }();
  return names;
}

std::vector<Section> make_plan(const PlanInput& input) {
  const auto wanted = [&](const Share& share) {
    return input.only.empty() || std::ranges::count(input.only, share.name) > 0;
  };
  double parts = 0;
  for (const Share& share : kShares) parts += wanted(share) ? share.part : 0;
  std::vector<Section> sections;
  double spent = 0;
  for (const Share& share : kShares) {
    if (!wanted(share)) continue;
    spent += share.part;
    sections.push_back({share.name, input.budget_s * spent / parts, share.must_finish,
                        runs_of(share.name, input)});
  }
  return sections;
}

int batch_for(const ModelFacts& model, const std::string& precision, double memory_gib) {
  const double room = kShareOfMemory * memory_gib * kGib - 16 * model.parameters;
  const double image = kActivationsHeld * model.activation_elements * bytes_of(precision);
  for (int batch = kMostBatch; batch >= 1; batch /= 2) {
    if (batch * image <= room) return batch;
  }
  return 0;
}

Decision decide(const Run& run, double now_s, double ends_at_s) {
  const double left = ends_at_s - now_s;
  if (left < 1 || left < run.expected_s / 2) return {};
  const double most = std::min(left, run.limit_s);
  return {true, std::max(1, static_cast<int>(std::floor(most))), run.limit_s <= left};
}

}  // namespace dist::bench::gpu
