// SPDX-License-Identifier: Apache-2.0
// Internal: the strategies behind one module. An arena holds one element type on one device, so
// there is a lane, an arena with a strategy, for each type and device of its parameters; a caller
// sees entries, not lanes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "libdist/dist.h"
#include "libdist/libtorch/accelerators.h"
#include "libdist/libtorch/libtorch.h"
#include "libdist/libtorch/replica.h"

namespace dist::libtorch {

class Lanes {
 public:
  /// Lays the entries out in `order` and begins: all replicas are rank 0's, or those of the
  /// checkpoint to resume from. Collective among `everyone`, all ranks of the world; `world` and
  /// `options` outlive the lanes. Errors: ranks with other lanes; a device that is not to be used;
  /// what a strategy, or a checkpoint, refuses; several lanes where they cannot be.
  static Result<std::unique_ptr<Lanes>> open(World& world, Group& everyone,
                                             const AttachOptions& options,
                                             Accelerators& accelerators,
                                             std::vector<Entry>& entries,
                                             const std::vector<std::size_t>& order);

  /// The entries in the order in which their gradients travel.
  std::vector<std::size_t> order() const;
  /// Whether open() would lay them out for this order as they are.
  bool keeps(const std::vector<std::size_t>& order) const;

  /// The gradient of an entry is final: once a step, in any order. All ranks start exchanges in one
  /// order, so a lane's wait until all of the lane before it are final.
  void ready(std::size_t entry);

  /// Ends the step; entries that were not ready contribute what lies in the arena.
  Result<StepReport> finish_step();
  Status zero_gradients();

  /// As Strategy, of all of them.
  Status join(const std::function<void()>& update);
  Status end();
  int workers() const { return lanes_[0].strategy->workers(); }
  int worker() const { return lanes_[0].strategy->worker(); }

  /// `files` come into the first lane's checkpoint.
  Status save(std::vector<CheckpointFile> files);
  Status wait_for_checkpoints();

  /// Of the first lane; null without AttachOptions::checkpoints.
  const Checkpoints* checkpoints() const { return lanes_[0].checkpoints.get(); }

 private:
  struct Lane {
    DType type = DType::f32;
    torch::Device place = torch::kCPU;
    std::uint64_t bytes = 0;            // of all its parameters
    std::vector<std::size_t> entry_in;  // by slot of the arena
    std::size_t waiting = 0;            // of its entries, in this step
    std::shared_ptr<Arena> arena;
    std::unique_ptr<Checkpoints> checkpoints;
    std::unique_ptr<Strategy> strategy;  // after those: it goes first
  };
  struct Place {
    std::size_t lane;
    std::size_t slot;
  };

  Lanes() = default;
  c10::optional<torch::Device> gpu() const;
  void sort(const std::vector<Entry>& entries, const std::vector<std::size_t>& order);
  Status check(const AttachOptions& options, const std::vector<Entry>& entries) const;
  std::string directory(std::size_t lane) const;
  Status compare(Group& everyone) const;
  Status open_checkpoints(Group& everyone, const AttachOptions& options);
  Status open_checkpoints(Group& everyone, const AttachOptions& options, std::size_t lane,
                          std::optional<std::uint64_t> newest_step);
  void begin_step();
  void start_ready(std::size_t lane);

  std::vector<Lane> lanes_;    // the largest first
  std::vector<Place> places_;  // by entry
  std::vector<bool> ready_;    // by entry, in this step
  std::size_t current_ = 0;    // the lane whose gradients go to its strategy at once
};

}  // namespace dist::libtorch
