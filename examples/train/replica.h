// SPDX-License-Identifier: Apache-2.0
// One rank of the training: its network, its arena, its strategy and its data, made ready.
#pragma once

#include <dist/dist.h>

#include <memory>
#include <optional>
#include <vector>

#include "examples/data/synthetic.h"
#include "examples/nn/network.h"
#include "examples/train/checkpoint.h"
#include "examples/train/gpu.h"
#include "examples/train/options.h"

namespace train {

/// Members are destroyed in the reverse order: the strategy and the network point into the arena,
/// which therefore stays where it is when the replica moves.
struct Replica {
  std::optional<Gpu> gpu;  ///< of the backend cudnn
  std::unique_ptr<dist::Arena> arena;
  std::unique_ptr<nn::Network> network;
  std::unique_ptr<Saver> saver;  ///< null without --checkpoint; the strategy uses it
  std::unique_ptr<dist::Strategy> strategy;
  std::vector<nn::data::Samples> batches;  ///< step s trains on batches[s % size]; empty: replay
  GpuBatches gpu_batches;                  ///< in place of those
  int worker = 0;                          ///< -1 on a rank that only serves
  int workers = 1;                         ///< of the whole job
  int threads = 1;

  bool trains() const { return worker >= 0; }
  nn::Batch batch(std::int64_t step) const;
};

/// Makes this rank's replica without its large memory; nothing is exchanged. Fills in
/// options->backend where the user left the choice. Errors: a backend that is not in this build,
/// replicas of this host's ranks that together do not fit in its memory.
dist::Result<Replica> make_replica(TrainOptions* options, const nn::Graph& graph,
                                   dist::World& world);

/// Gives the replica its activations, initial values and data; nothing on a rank that only serves.
/// Call it when all ranks have their replica, so that each has seen the host's memory still free.
dist::Status make_ready(const TrainOptions& options, Replica& replica);

}  // namespace train
