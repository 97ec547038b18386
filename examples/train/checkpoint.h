// SPDX-License-Identifier: Apache-2.0
// When the trainer saves, what it adds to a checkpoint, and when it is told to stop.
#pragma once

#include <dist/dist.h>

#include <cstdint>
#include <memory>
#include <string>

#include "examples/nn/network.h"
#include "examples/train/options.h"

namespace train {

struct Replica;

class Saver {
 public:
  /// Collective; lets the replica's strategy save and resume. Nothing without --checkpoint. Says on
  /// rank 0 where the run goes on. Errors: those of dist::Checkpoints::open(), a checkpoint of
  /// another model, layout, data set or seed.
  static dist::Result<std::unique_ptr<Saver>> open(const TrainOptions& options,
                                                   const Replica& replica, dist::World& world);

  /// Steps that the checkpoint holds, 0 without one.
  std::int64_t first_step() const { return static_cast<std::int64_t>(checkpoints_->first_step()); }

  /// On every worker when `step` has ended: saves when it is time. True when the run shall stop:
  /// SIGTERM has come, to any worker of a synchronous strategy, to this one of async-ps.
  dist::Result<bool> after_step(std::int64_t step, const Replica& replica);

  /// On every rank after the strategy's end: waits for what is being written.
  dist::Status finish();

  /// `failure` of a run that had ended `steps` steps, with the count of those that are lost.
  dist::Status with_loss(const dist::Status& failure, std::int64_t steps) const;

 private:
  Saver(const TrainOptions& options, std::unique_ptr<dist::Checkpoints> checkpoints,
        bool saves_files)
      : options_(options), checkpoints_(std::move(checkpoints)), saves_files_(saves_files) {}

  dist::Result<bool> agree_to_stop();
  void save(std::int64_t steps, const Replica& replica);
  void tell_failure(const dist::Status& failure);

  const TrainOptions& options_;
  std::unique_ptr<dist::Checkpoints> checkpoints_;
  const bool saves_files_;                // not where servers write checkpoints by themselves
  std::unique_ptr<dist::Group> workers_;  // null: nobody to agree with
};

}  // namespace train
