// SPDX-License-Identifier: Apache-2.0
#include "examples/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <numeric>
#include <vector>

#include "examples/train/replica.h"
#include "examples/train/report.h"
#include "examples/train/termination.h"
#include "examples/train/weights.h"

namespace train {
namespace {

using dist::Status;

// What must be the same for a run to go on as if nothing had been.
std::map<std::string, std::string> identity(const TrainOptions& options, const Replica& replica) {
  return {{"model", options.model},
          {"image", fmt::format("{}", options.image)},
          {"layout", fmt::format("{:016x}", replica.network->layout_hash())},
          {"data", options.data},
          {"seed", fmt::format("{}", options.seed)}};
}

Status compare(const std::map<std::string, std::string>& theirs,
               const std::map<std::string, std::string>& ours, const std::string& from) {
  for (const auto& [name, value] : ours) {
    const auto found = theirs.find(name);
    if (found == theirs.end() || found->second == value) continue;
    return Status::invalid_argument(fmt::format(
        "--resume: {} is of a run with {} {}, this one has {}{}", from, name, found->second, value,
        name == "layout" ? " (the layout depends on --backend, its version and the processor)"
                         : ""));
  }
  return {};
}

bool synchronous(const TrainOptions& options) {
  return options.strategy != "async-ps" || options.world.staleness == 0;
}

void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

dist::Result<std::unique_ptr<Saver>> Saver::open(const TrainOptions& options,
                                                 const Replica& replica, dist::World& world) {
  if (options.checkpoint.empty()) return std::unique_ptr<Saver>();
  auto checkpoints = dist::open_checkpoints(world, *replica.arena, options.optimizer,
                                            {.directory = options.checkpoint,
                                             .keep = options.checkpoint_keep,
                                             .resume = options.resume,
                                             .timeout = options.world.timeout,
                                             .values = identity(options, replica)});
  DIST_TRY(checkpoints);
  const bool alone = stands_alone(world);
  std::unique_ptr<Saver> saver(new Saver(options, *std::move(checkpoints), !alone));
  const dist::Checkpoints& from = *saver->checkpoints_;
  DIST_TRY(compare(from.values(), identity(options, replica), from.resumed_from()));
  saver->checkpoints_->attach(*replica.strategy);
  if (synchronous(options) && replica.workers > 1 && replica.trains() && !alone) {
    std::vector<dist::Rank> workers(static_cast<std::size_t>(replica.workers));
    std::iota(workers.begin(), workers.end(), 0);
    auto group = dist::make_group(world, std::move(workers));
    DIST_TRY(group);
    saver->workers_ = *std::move(group);
  }
  // Where workers come and go the first server knows, else the first rank.
  if (world.rank() != (alone ? replica.workers : 0) || !options.resume) return saver;
  for (const auto& line : from.damaged()) say("passed over a damaged checkpoint: " + line);
  say(from.resumed_from().empty()
          ? fmt::format("no checkpoint in {}: beginning anew", options.checkpoint)
          : fmt::format("resumed at step {} (version {}) of {} from {}", from.first_step(),
                        from.version(), options.warmup + options.steps, from.resumed_from()));
  return saver;
}

dist::Result<bool> Saver::agree_to_stop() {
  std::array<std::uint64_t, 1> asked = {termination_asked() ? 1u : 0u};
  if (workers_) DIST_TRY_BECAUSE(workers_->all_reduce(asked, dist::Reduction::max), "agreement");
  return asked[0] != 0;
}

dist::Result<bool> Saver::after_step(std::int64_t step, const Replica& replica) {
  const auto stop = agree_to_stop();
  DIST_TRY(stop);
  const auto steps = step + 1;
  const bool last = steps == options_.warmup + options_.steps;
  const bool due = options_.checkpoint_every > 0 && steps % options_.checkpoint_every == 0;
  if (last || due || *stop) save(steps, replica);
  return *stop;
}

// A disk that is full does not end the training: it is told, and tried again the next time.
void Saver::save(std::int64_t steps, const Replica& replica) {
  std::map<std::string, std::string> values;
  values["next_step"] = fmt::format("{}", steps);
  values["workers"] = fmt::format("{}", replica.workers);
  values["batch"] = fmt::format("{}", options_.batch);
  std::vector<dist::CheckpointFile> files;
  if (saves_files_ && replica.worker == 0) {
    files.push_back({"weights.safetensors", safetensors(*replica.network)});
  }
  tell_failure(checkpoints_->save(*replica.strategy, std::move(values), std::move(files)));
}

void Saver::tell_failure(const Status& failure) {
  if (failure.ok()) return;
  const auto line =
      fmt::format("train_cnn: warning: rank {}: {}\n", options_.world.rank, failure.message());
  std::fputs(line.c_str(), stderr);
}

Status Saver::finish() { return checkpoints_->wait(); }

Status Saver::with_loss(const Status& failure, std::int64_t steps) const {
  const auto kept = static_cast<std::int64_t>(checkpoints_->newest_step());
  return {failure.code(),
          fmt::format("{}; the newest complete checkpoint holds {} steps, {} are lost: go on with "
                      "--resume",
                      failure.message(), kept, std::max<std::int64_t>(steps - kept, 0))};
}

}  // namespace train
