// SPDX-License-Identifier: Apache-2.0
#include "examples/train/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "examples/models/models.h"
#include "examples/nn/profile.h"
#include "examples/train/loop.h"
#include "examples/train/machine.h"
#include "examples/train/model_record.h"
#include "examples/train/parameters.h"
#include "examples/train/report.h"
#include "examples/train/termination.h"

namespace train {
namespace {

using dist::Status;

Outcome failed(std::string error) { return {1, std::move(error)}; }

// A failure that every rank meets by itself: rank 0 tells it.
Outcome same_everywhere(const TrainOptions& options, const Status& status) {
  return failed(options.world.rank == 0 ? status.message() : "");
}

// A failure of this rank's own, or one that each rank sees from its side.
Outcome own_story(const TrainOptions& options, const Status& status) {
  return failed(options.world.ranks == 1
                    ? status.message()
                    : fmt::format("rank {}: {}", options.world.rank, status.message()));
}

Outcome cannot_join(const TrainOptions& options, const Status& status) {
  const bool shared = status.code() == dist::ErrorCode::invalid_argument ||
                      status.code() == dist::ErrorCode::unavailable;
  return shared ? same_everywhere(options, status) : own_story(options, status);
}

// Every rank says whether it is ready. If some are not, the lowest of them tells its reason and all
// end: nobody waits for a rank that never comes.
Outcome agree(const TrainOptions& options, const Status& mine, dist::World& world) {
  if (stands_alone(world)) return mine.ok() ? Outcome() : own_story(options, mine);
  auto rows = gather(world, {mine.ok() ? 0.0 : 1.0});
  if (!rows.ok()) return own_story(options, mine.ok() ? rows.status() : mine);
  const auto first = std::find_if(rows->begin(), rows->end(),
                                  [](const std::vector<double>& row) { return row[0] != 0; });
  if (first == rows->end()) return {};
  const bool teller = first - rows->begin() == world.rank();
  return failed(teller ? mine.message() : "");
}

Status check_files(const TrainOptions& options) {
  const std::pair<const char*, const std::string&> all[] = {{"--trace", options.world.trace}};
  const std::pair<const char*, const std::string&> first[] = {
      {"--json", options.json},
      {"--profile", options.profile},
      {"--save-parameters", options.save_parameters}};
  for (const auto& [what, path] : all) {
    if (!path.empty()) DIST_TRY(check_writable(path, what));
  }
  if (options.world.rank != 0) return {};
  for (const auto& [what, path] : first) {
    if (!path.empty()) DIST_TRY(check_writable(path, what));
  }
  return {};
}

Status write_profile(const TrainOptions& options, const Report& report,
                     const Measurements& measured) {
  const Machine machine = this_machine();
  const auto processor = report.device.empty()
                             ? fmt::format("{}, {} cores", machine.cpu, machine.cores)
                             : report.device;
  return nn::write_profile({.model = options.model,
                            .image = options.image,
                            .batch = options.batch,
                            .backend = options.backend,
                            .machine = processor,
                            .nodes = measured.layers},
                           options.profile);
}

// The job's files and words, or this worker's.
Status publish(const TrainOptions& options, const Replica& replica, const Measurements& measured,
               const Report& report) {
  std::fputs(summary(options, report).c_str(), stdout);
  if (!options.json.empty()) DIST_TRY(append_record(options, report));
  if (replica.worker != 0) return {};
  if (!options.profile.empty()) DIST_TRY(write_profile(options, report, measured));
  if (!options.save_parameters.empty()) {
    DIST_TRY(save_parameters(*replica.network, options.save_parameters));
  }
  const bool must_agree = options.strategy == "ring" || options.strategy == "sync-ps";
  if (must_agree && !options.replays() && !report.replicas_equal) {
    return Status::protocol("the workers' parameters differ after the last step");
  }
  return {};
}

Outcome stopped(const TrainOptions& options, const Measurements& measured, bool alone) {
  if (alone) {  // what it did after the last save is in none (DESIGN 53)
    return {kStoppedExitCode,
            fmt::format("stopped by SIGTERM after {} steps: a job with --resume goes on from the "
                        "newest checkpoint of the servers",
                        measured.steps)};
  }
  if (options.world.rank != 0) return {kStoppedExitCode, ""};
  return {kStoppedExitCode,
          fmt::format("stopped by SIGTERM after {} steps, which are saved: go on with --resume",
                      measured.steps)};
}

Outcome train_together(TrainOptions options, const nn::Graph& graph, dist::World& world) {
  auto replica = [&]() -> dist::Result<Replica> {
    DIST_TRY(check_files(options));
    return make_replica(&options, graph, world);
  }();
  if (auto made = agree(options, replica.status(), world); made.exit_code != 0) return made;
  auto saver = Saver::open(options, *replica, world);
  if (auto opened = agree(options, saver.status(), world); opened.exit_code != 0) return opened;
  replica->saver = *std::move(saver);
  const Status ready = make_ready(options, *replica);
  if (auto all = agree(options, ready, world); all.exit_code != 0) return all;
  auto measured = run_training(options, *replica, world);
  if (!measured.ok()) return own_story(options, measured.status());
  auto report = make_report(options, *replica, *measured, world);
  if (!report.ok()) return own_story(options, report.status());
  const bool speaks = stands_alone(world) ? replica->trains() : world.rank() == 0;
  const Status published = speaks ? publish(options, *replica, *measured, *report) : Status();
  // Nobody leaves while rank 0 may still fail.
  auto outcome = agree(options, published, world);
  if (outcome.exit_code == 0) outcome = agree(options, measured->saved, world);
  if (outcome.exit_code == 0 && measured->stopped) {
    return stopped(options, *measured, stands_alone(world));
  }
  return outcome;
}

}  // namespace

Outcome run_session(TrainOptions options) {
  auto graph = nn::models::make_model(options.model, {.image = options.image});
  if (!graph.ok()) return same_everywhere(options, graph.status());
  options.image = graph->input_shape().height;
  if (options.describe) {
    if (options.world.rank != 0) return {};
    std::fputs(nn::models::describe(*graph).c_str(), stdout);
    const Status written = options.json.empty() ? Status() : append_model_record(options, *graph);
    return written.ok() ? Outcome() : failed(written.message());
  }
  if (!options.checkpoint.empty()) note_termination();
  auto world = dist::World::open(options.world);
  if (!world.ok()) return cannot_join(options, world.status());
  options.world.rank = world->rank();
  options.world.ranks = world->ranks();
  return train_together(std::move(options), *graph, *world);
}

}  // namespace train
