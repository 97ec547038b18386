// SPDX-License-Identifier: Apache-2.0
#include "bench/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/main.h"

namespace dist::bench {
namespace {

constexpr const char* kFooter = R"(
Every run is trainer x strategy x ranks x repeat, one after the other; `--strategy none` (independent) is added as
the baseline. Writes DIR/runs.jsonl, DIR/table.md, DIR/plots/*.png, *.svg, *.dat and DIR/logs/.
Arguments after -- go to the trainer as they are.
Exit code: 0 all done; 1 bad arguments or a failed run; 2 runs and table are done but the plots are not (no gnuplot).
Example:
  scaling --models resnet50 --strategies ring,sync-ps --ranks 1,2 --repeats 3 --steps 10 --batch 4 --out results)";

void add_sweep(CLI::App& app, SweepOptions& o) {
  app.add_option("--models", o.models, "Models, comma-separated")->delimiter(',');
  app.add_option("--strategies", o.strategies, "Strategies, comma-separated")->delimiter(',');
  app.add_option("--ranks", o.ranks, "Rank counts, comma-separated")->delimiter(',');
  app.add_option("--repeats", o.repeats, "Runs of each combination");
  app.add_option("--independent", o.independent,
                 "Where the baseline runs: at all rank counts, or at one rank only (first)")
      ->check(CLI::IsMember({"all", "first"}));
  app.add_option("--out", o.out, "Directory for results; an older runs.jsonl there is renamed");
  app.add_option("--plot-only", o.plot_only, "Only table and plots of this directory's runs.jsonl");
}

void add_trainer(CLI::App& app, SweepOptions& o) {
  app.add_option("--steps", o.steps, "Timed steps of a run");
  app.add_option("--warmup", o.warmup, "Steps before them, not timed");
  app.add_option("--batch", o.batch, "Images per worker and step");
  app.add_option("--image", o.image, "Pixels a side; 0 = native to the model");
  app.add_option("--threads", o.threads,
                 "Threads per rank; 0 = cores / largest rank count, the same in every run");
  app.add_option("--backend", o.backend, "onednn, ref or replay (emulated)");
  app.add_option("--transport", o.transport, "auto, shm, tcp, mpi or nccl");
  app.add_option("--servers", o.servers, "Parameter servers; 0 = the trainer's default");
  app.add_option("--placement", o.placement, "Of servers: colocated or dedicated")
      ->check(CLI::IsMember({"colocated", "dedicated"}));
  app.add_option("--staleness", o.staleness, "Bound of async-ps: a number or unlimited");
  app.add_option("--replay-step-ms-file", o.replay_step_ms_file,
                 "Step times of an accelerator for --backend replay, e.g. bench/clusters/k80.json");
}

void add_launch(CLI::App& app, SweepOptions& o) {
  app.add_option("--launcher", o.launcher, "distrun (beside this program) or mpirun")
      ->check(CLI::IsMember({"distrun", "mpirun"}));
  app.add_option("--program", o.program, "The trainer; default: train_cnn beside this program");
  app.add_option("--run-timeout", o.run_timeout_seconds, "Seconds after which a run is ended");
  app.add_option("trainer-arguments", o.trainer, "After --: further arguments of the trainer");
}

Status at_least(int value, int least, const char* name) {
  if (value >= least) return {};
  return Status::invalid_argument(
      fmt::format("{} is {}; it must be at least {}", name, value, least));
}

}  // namespace

std::optional<int> parse_options(int argc, const char* const* argv, SweepOptions& options) {
  CLI::App app{"Measures how training scales: models x strategies x rank counts x repeats.",
               "scaling"};
  app.footer(kFooter);
  app.get_formatter()->column_width(34);
  app.option_defaults()->always_capture_default();
  add_sweep(app, options);
  add_trainer(app, options);
  add_launch(app, options);
  return parse_command_line(app, argc, argv);
}

Status validate(const SweepOptions& o) {
  if (!o.plot_only.empty()) return {};
  if (o.out.empty()) return Status::invalid_argument("--out DIR is missing");
  if (o.models.empty() || o.strategies.empty() || o.ranks.empty()) {
    return Status::invalid_argument("--models, --strategies and --ranks need at least one entry");
  }
  for (const int ranks : o.ranks) {
    if (Status status = at_least(ranks, 1, "an entry of --ranks"); !status.ok()) return status;
  }
  const std::vector<std::pair<const char*, int>> positive = {
      {"--repeats", o.repeats},
      {"--steps", o.steps},
      {"--batch", o.batch},
      {"--run-timeout", o.run_timeout_seconds}};
  for (const auto& [name, value] : positive) {
    if (Status status = at_least(value, 1, name); !status.ok()) return status;
  }
  const std::vector<std::pair<const char*, int>> natural = {{"--warmup", o.warmup},
                                                            {"--image", o.image},
                                                            {"--threads", o.threads},
                                                            {"--servers", o.servers}};
  for (const auto& [name, value] : natural) {
    if (Status status = at_least(value, 0, name); !status.ok()) return status;
  }
  if (!o.replay_step_ms_file.empty() && o.backend != "replay") {
    return Status::invalid_argument("--replay-step-ms-file goes with --backend replay only");
  }
  return {};
}

Baseline baseline_of(const SweepOptions& options) {
  return options.independent == "all" ? Baseline::all : Baseline::first;
}

int threads_per_rank(const SweepOptions& options, int cores) {
  if (options.threads > 0) return options.threads;
  return std::max(1, cores / *std::max_element(options.ranks.begin(), options.ranks.end()));
}

Result<std::vector<std::string>> command_of(const RunSpec& run, const SweepOptions& options,
                                            const Tools& tools, const Cluster* cluster, int threads,
                                            const std::string& json_path) {
  std::vector<std::string> command = {tools.launcher};
  const auto add = [&](std::initializer_list<std::string> words) {
    command.insert(command.end(), words);
  };
  if (tools.launcher_is_mpirun) {
    if (tools.as_root) add({"--allow-run-as-root"});
    add({"--oversubscribe", "--bind-to", "none"});
  }
  add({"-n", std::to_string(run.ranks)});
  if (!tools.launcher_is_mpirun) add({"--"});
  add({tools.program, "--model", run.model, "--strategy", run.strategy, "--backend",
       options.backend, "--transport", options.transport, "--batch", std::to_string(options.batch),
       "--steps", std::to_string(options.steps), "--warmup", std::to_string(options.warmup),
       "--threads", std::to_string(threads), "--json", json_path});
  if (options.image > 0) add({"--image", std::to_string(options.image)});
  const bool has_servers = run.strategy != kIndependent && run.strategy != "ring";
  if (has_servers && options.servers > 0) add({"--servers", std::to_string(options.servers)});
  if (has_servers && !options.placement.empty()) add({"--placement", options.placement});
  if (run.strategy == "async-ps" && !options.staleness.empty()) {
    add({"--staleness", options.staleness});
  }
  if (cluster != nullptr) {
    auto step_ms = cluster->step_ms_at(run.model, static_cast<std::uint64_t>(options.batch));
    if (!step_ms.ok()) return step_ms.status();
    add({"--replay-step-ms", fmt::format("{:.3f}", *step_ms)});
  }
  command.insert(command.end(), options.trainer.begin(), options.trainer.end());
  return command;
}

}  // namespace dist::bench
