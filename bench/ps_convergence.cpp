// SPDX-License-Identifier: Apache-2.0
// ps_convergence: what a policy of the parameter servers, or a compression, costs in samples and
// in time to learn the same. See bench/README.md for every definition.
#include <dist/dist.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>

#include "bench/main.h"
#include "bench/provenance.h"
#include "bench/ps/report_card.h"
#include "bench/ps/schooling.h"
#include "bench/record.h"

namespace {

using dist::Options;
using dist::Status;
using namespace dist::bench;

constexpr const char* kFooter = R"(
The first policy is the reference. Every policy trains small_cnn on the learnable data set from the
same start on the same data, once a seed; every image is new. The learning rate is that of a mean over
all workers; a policy that applies each gradient on arrival (bounded:S, async) gets it divided by the
workers, unless +rate or +lr:FACTOR says otherwise.
Start it with a launcher:
  distrun -n 4 ps_convergence --policies sync,bounded:4,async --compute-ms 30 --plots plots)";

struct BenchOptions {
  std::vector<std::string> policies = {"sync",      "backup",     "bounded:1",
                                       "bounded:4", "bounded:16", "async"};
  SchoolOptions school;
  std::uint64_t seeds = 3;
  std::size_t window = 32;
  std::vector<double> marks = {1, 0.5, 0.1};
  std::string json, plots;
  std::string name = "policies";
};

constexpr std::size_t kRecordedPoints = 24;

std::optional<int> parse(int argc, char** argv, BenchOptions& o) {
  CLI::App app("What policies and compression cost in learning.");
  app.footer(kFooter);
  app.allow_extras();  // --dist-NAME=VALUE
  const auto positive = CLI::PositiveNumber;
  auto& school = o.school;
  app.add_option("--policies", o.policies, std::string(variant_grammar()))->delimiter(',');
  app.add_option("--seeds", o.seeds, "Runs of each policy")->check(positive)->capture_default_str();
  app.add_option("--steps", school.length.steps, "Of each worker; 0: as --seconds say")
      ->capture_default_str();
  app.add_option("--seconds", school.length.seconds, "With --steps 0: of each run")
      ->check(positive);
  app.add_option("--batch", school.learner.batch, "Images of a worker's step")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--image", school.learner.image, "Height and width of the images")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--backend", school.learner.backend, "auto, ref or onednn")->capture_default_str();
  app.add_option("--learning-rate", school.learning_rate, "Of a mean over all workers")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--momentum", school.momentum, "Of the optimizer")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--window", o.window,
                 "Steps of all workers that a point of a curve is the mean of")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--marks", o.marks, "Losses that are to be reached, comma-separated")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--compute-ms", school.delays.compute_ms, "A step computes at least so long")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--slow-worker", school.delays.slow_worker, "See ps_bench")
      ->check(CLI::Range(1.0, 1000.0));
  app.add_flag("--slow-step", school.delays.slow_step, "See ps_bench");
  app.add_option("--json", o.json, "Append records to this file");
  app.add_option("--plots", o.plots, "Draw curves into this folder");
  app.add_option("--name", o.name, "Of the page")->capture_default_str();
  return parse_command_line(app, argc, argv);
}

// What the time axis is worth.
std::string describe_time(const BenchOptions& o, int workers) {
  if (o.school.delays.compute_ms > 0) {
    return fmt::format("s, emulated: {:g} ms of computing a step", o.school.delays.compute_ms);
  }
  return fmt::format("s, measured: {} workers on {} cores", workers, usable_cores());
}

Status write_records(const BenchOptions& o, const dist::World& world,
                     const std::vector<Term>& terms, const std::vector<Grade>& grades,
                     const nlohmann::json& provenance) {
  if (o.json.empty()) return {};
  nlohmann::json common = {{"kind", o.school.delays.compute_ms > 0 ? "emulated" : "measured"},
                           {"name", o.name},
                           {"transport", world.transport_name()},
                           {"batch", o.school.learner.batch},
                           {"image", o.school.learner.image},
                           {"window", o.window},
                           {"compute_ms", o.school.delays.compute_ms},
                           {"slow_worker", o.school.delays.slow_worker},
                           {"slow_step", o.school.delays.slow_step}};
  for (const Term& term : terms) {
    auto record = record_of(term, kRecordedPoints);
    record.update(common);
    DIST_TRY(append_line(o.json, record));
  }
  for (const Grade& grade : grades) {
    auto record = record_of(grade);
    record.update(common);
    record["seeds"] = o.seeds;
    record["provenance"] = provenance;
    DIST_TRY(append_line(o.json, record));
  }
  return {};
}

Status report(const BenchOptions& o, const dist::World& world, const std::vector<Term>& terms,
              const nlohmann::json& provenance) {
  const auto grades = grade(terms, o.marks);
  const int workers = grades.front().mean.workers;
  std::fputs(format_grades(grades).c_str(), stdout);
  DIST_TRY(write_records(o, world, terms, grades, provenance));
  if (o.plots.empty()) return {};
  const auto page = learning_page(o.name,
                                  fmt::format("{} workers, batch {}, mean of {} seeds", workers,
                                              o.school.learner.batch, o.seeds),
                                  describe_time(o, workers), grades);
  return write_page(o.plots, page);
}

Status run(const BenchOptions& o, int argc, char** argv) {
  std::vector<Variant> variants;
  for (const auto& name : o.policies) {
    const auto variant = variant_named(name);
    DIST_TRY(variant);
    variants.push_back(*variant);
  }
  if (o.school.length.steps == 0 && o.school.length.seconds == 0) {
    return Status::invalid_argument("--steps 0 needs --seconds");
  }
  auto base = Options::from_environment(argc, argv);
  DIST_TRY(base);
  const auto provenance = dist::bench::provenance(command_line(argc, argv));
  auto world = dist::World::open(*base);
  DIST_TRY(world);
  auto group = dist::make_group(*world);
  DIST_TRY(group);
  std::vector<Term> terms;
  std::uint64_t job_number = 0;
  // Policies take turns, so that a machine whose speed drifts treats all alike.
  for (std::uint64_t seed = 1; seed <= o.seeds; ++seed) {
    SchoolOptions school = o.school;
    school.learner.seed = school.delays.seed = seed;
    for (const Variant& variant : variants) {
      Options options = *base;
      options.job += ++job_number;  // its own place to meet
      auto schooling = run_school(school, variant, std::move(options), **group);
      DIST_TRY_BECAUSE(schooling, variant.name);
      Curve curve =
          smooth(schooling->lessons, static_cast<std::size_t>(school.learner.batch), o.window);
      if (curve.empty()) {
        return Status::invalid_argument(
            fmt::format("{} steps are less than --window {}", schooling->lessons.size(), o.window));
      }
      terms.push_back({variant.name, seed, *std::move(schooling), std::move(curve)});
    }
  }
  return world->rank() == 0 ? report(o, *world, terms, provenance) : Status();
}

}  // namespace

int main(int argc, char** argv) { return run_program("ps_convergence", argc, argv, parse, run); }
