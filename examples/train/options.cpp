// SPDX-License-Identifier: Apache-2.0
#include "examples/train/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <limits>
#include <vector>

#include "examples/models/models.h"
#include "examples/nn/network.h"

namespace train {
namespace {

using dist::Status;

constexpr std::int64_t kMostImages = 1 << 20;
constexpr std::int64_t kMostSteps = std::int64_t{1} << 32;

// Text of the options that go to dist::Options; empty: not given.
struct WorldTexts {
  std::string transport, rendezvous, servers, placement, staleness, timeout, trace;
};

void add_update_options(CLI::App& app, TrainOptions* o) {
  app.add_option("--optimizer", o->optimizer,
                 fmt::format("{}", fmt::join(dist::update_rule_names(), ", ")))
      ->capture_default_str();
  app.add_option("--learning-rate", o->learning_rate, "Step size [the optimizer's own]")
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--weight-decay", o->weight_decay,
                 "Of weights, not of biases, gammas and betas [the optimizer's own: 0, adamw 0.01]")
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--clip-norm", o->clip_norm,
                 "Largest norm of the mean gradient (async-ps: of each one); 0: any")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  app.add_option("--schedule", o->schedule,
                 "Of the learning rate: constant, step (to a tenth every --rate-interval steps), "
                 "cosine (to 0 at the last step)")
      ->check(CLI::IsMember({"constant", "step", "cosine"}))
      ->capture_default_str();
  app.add_option("--rate-warmup", o->rate_warmup,
                 "Steps in which the learning rate grows to its full value")
      ->check(CLI::Range(std::int64_t{0}, kMostSteps))
      ->capture_default_str();
  app.add_option("--rate-interval", o->rate_interval,
                 "Steps between two cuts of --schedule step; 0: a third of all")
      ->check(CLI::Range(std::int64_t{0}, kMostSteps))
      ->capture_default_str();
}

void add_training_options(CLI::App& app, TrainOptions* o) {
  const auto models = fmt::format("{}", fmt::join(nn::models::model_names(), ", "));
  const auto strategies = fmt::format("{}", fmt::join(dist::strategy_names(), ", "));
  app.add_option("--model", o->model, models)->capture_default_str();
  app.add_option("--strategy", o->strategy, strategies + " (no exchange: the ideal baseline)")
      ->capture_default_str();
  app.add_option("--backend", o->backend,
                 fmt::format("{} (no arithmetic: sleeps as a profile says; its results are marked "
                             "emulated) [onednn where built in, else ref]",
                             nn::backend_names()));
  app.add_option(
         "--precision", o->precision,
         "Of the arithmetic: f32, f64 (ref only), or tf32, f16, bf16 (cudnn only; parameters "
         "stay f32)")
      ->check(CLI::IsMember({"f32", "f64", "tf32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--batch", o->batch, "Images a worker and step")
      ->check(CLI::Range(std::int64_t{1}, kMostImages))
      ->capture_default_str();
  app.add_option("--steps", o->steps, "Timed steps")
      ->check(CLI::Range(std::int64_t{1}, kMostSteps))
      ->capture_default_str();
  app.add_option("--warmup", o->warmup, "Steps before them, trained but not timed")
      ->check(CLI::Range(std::int64_t{0}, kMostSteps))
      ->capture_default_str();
  app.add_option("--image", o->image, "Height and width in pixels; 0: the model's own")
      ->capture_default_str();
  app.add_option("--seed", o->seed, "Of initial values, data and dropout")->capture_default_str();
  add_update_options(app, o);
  app.add_option("--data", o->data,
                 "random (nothing to learn) or learnable; synthetic, made before the first step")
      ->capture_default_str();
  app.add_option("--threads", o->threads,
                 "Threads of one rank's arithmetic; 0: this host's cores / its ranks, 1 with "
                 "--deterministic")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_flag("--deterministic", o->deterministic,
               "Same ranks, same bits: fixes threads and the order of every sum");
}

void add_world_options(CLI::App& app, WorldTexts* w) {
  app.add_option("--transport", w->transport,
                 "auto, shm, tcp, mpi, or nccl for gradients on GPUs [auto: mpi under mpirun, else "
                 "shm on one host, else tcp]");
  app.add_option("--rendezvous", w->rendezvous,
                 "Where ranks meet: dir:PATH, or tcp:HOST:PORT where rank 0 listens [private]");
  app.add_option("--servers", w->servers,
                 "Parameter servers; 0: one a worker (colocated), one (dedicated) [0]");
  app.add_option("--placement", w->placement,
                 "Servers colocated with workers, or dedicated: the last ranks [colocated]");
  app.add_option("--staleness", w->staleness,
                 "async-ps: steps a worker may run ahead of the slowest, or unlimited [unlimited]");
  app.add_option("--timeout", w->timeout,
                 "Seconds in which an exchange must move, else the job fails [120]");
  app.add_option("--trace", w->trace,
                 "Chrome/Perfetto JSON, one file a rank: t.json gives t.rank0.json, ...");
}

void add_report_options(CLI::App& app, TrainOptions* o) {
  app.add_option("--json", o->json, "Append the record of this run, one line of JSON");
  app.add_option("--profile", o->profile, "Write the mean layer times of rank 0, for replay");
  app.add_option("--save-parameters", o->save_parameters,
                 "Write rank 0's parameters: f64, little endian, forward order, plain layout");
  app.add_option("--replay-profile", o->replay_profile,
                 "Layer times to play [estimated from the model]");
  app.add_option("--replay-step-ms", o->replay_step_ms,
                 "Milliseconds of forward + backward; scales the profile; 0: as it is")
      ->check(CLI::Range(0.0, 1e9));
  app.add_flag("--describe", o->describe,
               "Print layers, shapes and totals, with --json also as a record; do not train");
  app.add_flag("--progress", o->progress, "One line a step, from rank 0");
}

void add_checkpoint_options(CLI::App& app, TrainOptions* o) {
  auto* const directory = app.add_option(
      "--checkpoint", o->checkpoint,
      "Directory of checkpoints, which all ranks see; one is written at the end, and at SIGTERM, "
      "which then ends the run with exit code 75");
  app.add_option("--checkpoint-every", o->checkpoint_every, "Also after every so many steps")
      ->check(CLI::Range(std::int64_t{1}, kMostSteps))
      ->needs(directory);
  app.add_option("--checkpoint-keep", o->checkpoint_keep, "Complete checkpoints that stay")
      ->check(CLI::Range(1, 1 << 20))
      ->needs(directory)
      ->capture_default_str();
  app.add_flag("--resume", o->resume, "Go on from the newest checkpoint; anew where there is none")
      ->needs(directory);
}

constexpr const char* kAbout =
    "Trains an image network on synthetic ImageNet, data-parallel: alone, under mpirun -n N, or\n"
    "under distrun -n N. Reports\n"
    "  images/s = batch * workers * steps / seconds of the timed steps on the slowest worker,\n"
    "its standard error from the spread of rank 0's steps, and what communication cost.";

std::string world_help() {
  std::string text = "Options of the library, also as variables DIST_NAME:\n";
  for (const auto& [name, meaning] : dist::option_table()) {
    text += fmt::format("  {:<30}{}\n", fmt::format("--dist-{}=..", name), meaning);
  }
  return text;
}

Status overlay(const WorldTexts& texts, const TrainOptions& options, dist::Options* world) {
  const std::pair<const char*, const std::string&> given[] = {
      {"transport", texts.transport}, {"rendezvous", texts.rendezvous}, {"servers", texts.servers},
      {"placement", texts.placement}, {"staleness", texts.staleness},   {"trace", texts.trace},
  };
  for (const auto& [name, text] : given) {
    if (!text.empty()) DIST_TRY(world->set(name, text, fmt::format("--{}", name)));
  }
  if (!texts.timeout.empty()) DIST_TRY(world->set("timeout-s", texts.timeout, "--timeout"));
  if (options.deterministic) DIST_TRY(world->set("deterministic", "1", "--deterministic"));
  return world->validate();
}

// Updates of a parameter in one step of the trainer.
std::uint64_t updates_per_step(const TrainOptions& options) {
  const dist::Options& world = options.world;
  if (options.strategy != "async-ps" || world.staleness == 0) return 1;
  const bool dedicated = world.placement == dist::Placement::dedicated;
  const int servers = dedicated ? std::max(world.servers, 1) : 0;
  return static_cast<std::uint64_t>(std::max(world.ranks - servers, 1));
}

// What was not given is the optimizer's own.
Status take_defaults(const CLI::App& app, TrainOptions* options) {
  const auto rule = dist::make_update_rule(options->optimizer);
  DIST_TRY(rule);
  if (app.count("--learning-rate") == 0) options->learning_rate = learning_rate_of(*rule);
  if (app.count("--weight-decay") == 0) options->weight_decay = weight_decay_of(*rule);
  return {};
}

Status check_strategy(const std::string& name) {
  const auto names = dist::strategy_names();
  if (std::find(names.begin(), names.end(), name) != names.end()) return {};
  return Status::invalid_argument(
      fmt::format("strategy '{}' is unknown; valid: {}", name, fmt::join(names, ", ")));
}

// The arguments that are ours, last first as CLI11 wants them; the library takes --dist-... itself.
std::vector<std::string> own_arguments(int argc, const char* const* argv) {
  std::vector<std::string> own;
  for (int i = argc - 1; i > 0; --i) {
    if (!std::string_view(argv[i]).starts_with("--dist-")) own.emplace_back(argv[i]);
  }
  return own;
}

}  // namespace

dist::Result<dist::Update> make_update(const TrainOptions& options) {
  auto rule = dist::make_update_rule(options.optimizer, options.learning_rate);
  DIST_TRY(rule);
  set_weight_decay(*rule, options.weight_decay);
  dist::Update update = *rule;
  update.clip_norm = options.clip_norm;
  update.skip_not_finite = options.precision == "f16";  // the network then lowers its loss scale
  const auto scale = updates_per_step(options);
  const auto total = static_cast<std::uint64_t>(options.warmup + options.steps);
  update.schedule.warmup_steps = static_cast<std::uint64_t>(options.rate_warmup) * scale;
  if (options.schedule == "cosine") {
    update.schedule.decay = dist::CosineDecay{.total_steps = total * scale};
  } else if (options.schedule == "step") {
    const auto interval = options.rate_interval > 0
                              ? static_cast<std::uint64_t>(options.rate_interval)
                              : std::max<std::uint64_t>(total / 3, 1);
    update.schedule.decay = dist::StepDecay{.interval_steps = interval * scale};
  }
  DIST_TRY(validate(update));
  return update;
}

dist::Result<std::optional<TrainOptions>> parse_options(int argc, const char* const* argv) {
  TrainOptions options;
  WorldTexts texts;
  CLI::App app(kAbout, "train_cnn");
  app.footer(world_help());
  add_training_options(app, &options);
  add_world_options(app, &texts);
  add_report_options(app, &options);
  add_checkpoint_options(app, &options);
  auto world = dist::Options::from_environment(argc, argv);
  DIST_TRY(world);
  options.world = *std::move(world);
  try {
    app.parse(own_arguments(argc, argv));
  } catch (const CLI::CallForHelp&) {
    if (options.world.rank == 0) std::fputs(app.help().c_str(), stdout);
    return std::optional<TrainOptions>();
  } catch (const CLI::ParseError& error) {
    return Status::invalid_argument(std::string(error.what()) + "; see train_cnn --help");
  }
  DIST_TRY(overlay(texts, options, &options.world));
  DIST_TRY(check_strategy(options.strategy));
  DIST_TRY(take_defaults(app, &options));
  DIST_TRY(make_update(options));
  for (int i = 0; i < argc; ++i) options.command_line += (i > 0 ? " " : "") + std::string(argv[i]);
  return std::optional(std::move(options));
}

}  // namespace train
