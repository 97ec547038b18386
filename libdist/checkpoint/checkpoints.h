// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a job, as a program uses them:
//
//   auto all = dist::make_group(world).value();
//   auto checkpoints = dist::Checkpoints::open(*all, arena, rule, {.directory = "run7", .resume =
//   true}).value();
//   auto strategy = dist::make_strategy("ring", world, arena, rule).value();
//   checkpoints->attach(*strategy);
//   strategy->begin().value();
//   for (auto step = checkpoints->first_step(); step < steps; ++step) {
//     ...
//     if ((step + 1) % 1000 == 0) checkpoints->save(*strategy).value();
//   }
//   strategy->end().value();
//   checkpoints->wait().value();
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/group.h"
#include "libdist/status.h"
#include "libdist/strategy.h"
#include "libdist/types.h"

namespace dist {

/// Where checkpoints are, and what is done with them.
struct CheckpointOptions {
  std::string directory;  ///< seen by all ranks; made unless it is there (its parent must be)
  int keep = 2;           ///< complete checkpoints that stay, of as many steps
  bool resume = false;    ///< begin with the newest complete one; anew where there is none
  std::optional<std::uint64_t> newest_step{};    ///< with `resume`: later ones are passed over
  Duration timeout = std::chrono::seconds(120);  ///< for all ranks' shards to be written
  std::map<std::string, std::string> values{};   ///< in every checkpoint, beside those of save()
};

/// A file that the program adds to a checkpoint.
struct CheckpointFile {
  std::string name;              ///< within the checkpoint, without slashes
  std::vector<std::byte> bytes;  ///< its contents
};

/// Of one rank. One thread at a time. Only one job at a time may use a directory.
class Checkpoints {
 public:
  /// Collective among all ranks of the world. `rule`: name of the update rule, which says what the
  /// optimizer's state means. Errors, on all ranks: a directory that cannot be used; one with
  /// checkpoints in it, unless `resume`; a checkpoint of other parameters or another rule (the
  /// message says what differs); an arena with an alias window.
  static Result<std::unique_ptr<Checkpoints>> open(Group& all, const Arena& arena,
                                                   std::string_view rule,
                                                   CheckpointOptions options);

  /// As open(), of the parameter servers of a world whose workers come and go (their group): they
  /// alone write checkpoints and complete them, whenever their strategy is asked to. They hold
  /// options.values, no files, and none of save()'s values. `tell` hears of failures, on a thread
  /// of its own.
  static Result<std::unique_ptr<Checkpoints>> open_at_servers(
      Group& servers, const Arena& arena, std::string_view rule, CheckpointOptions options,
      std::function<void(const Status&)> tell);

  /// Of a worker of such a world: its save() asks the servers, who also know where the job goes on
  /// (Strategy::next_step()). It reads the directory only to tell what a failure has lost.
  static std::unique_ptr<Checkpoints> follow(const Arena& arena, std::string_view rule,
                                             CheckpointOptions options);

  virtual ~Checkpoints() = default;

  /// Lets a strategy save here, and begin where the job resumes. Before its begin(), on every rank;
  /// this must outlive the strategy.
  virtual void attach(Strategy& strategy) = 0;

  /// The path of the checkpoint the job resumes from; "" when it begins anew.
  virtual std::string resumed_from() const = 0;
  /// The first step to train: 0, or how many the checkpoint holds.
  virtual std::uint64_t first_step() const = 0;
  /// Updates that its parameters hold: of async-ps one a worker and step, else the steps.
  virtual std::uint64_t version() const = 0;
  /// What the program had added.
  virtual const std::map<std::string, std::string>& values() const = 0;
  /// Newer ones that were found damaged, one line each; rank 0.
  virtual const std::vector<std::string>& damaged() const = 0;

  /// Between two steps, on every rank that trains: takes a copy of what this rank owns (the
  /// training waits for that) and writes it in the background. Of sync strategies all ranks call it
  /// after the same step. Before that it waits for the checkpoint before this one and returns its
  /// failure, which does not keep this one from being written. `values` (one line each) and
  /// `files` count on rank 0. Not after any rank's join(): its share would be missing. Where
  /// workers come and go every one calls it after the same steps, say each hundredth; the first to
  /// get to a step lets the servers save it.
  virtual Status save(Strategy& strategy, std::map<std::string, std::string> values = {},
                      std::vector<CheckpointFile> files = {}) = 0;

  /// Blocks until all that was saved is on disk, or has failed: then why. Every rank calls it after
  /// the strategy's end().
  virtual Status wait() = 0;

  /// Steps in the newest complete checkpoint; 0: there is none.
  virtual std::uint64_t newest_step() const = 0;
};

}  // namespace dist
