// SPDX-License-Identifier: Apache-2.0
// A rank as a value: who it is, how it reaches the others. Several worlds may live in one process.
#pragma once

#include <memory>

#include "libdist/log.h"
#include "libdist/options.h"
#include "libdist/progress.h"
#include "libdist/status.h"
#include "libdist/trace.h"
#include "libdist/transport/transport.h"

namespace dist {

class OperationOrder;

/// Movable; what was made with it must not outlive it.
class World {
 public:
  /// Joins the world that mpirun, srun or distrun started, or stands alone; options from the
  /// environment and from --dist-NAME=VALUE arguments. Blocks until all ranks have met (at most
  /// connect_timeout).
  static Result<World> from_environment(int argc = 0, const char* const* argv = nullptr);

  /// The same with options the caller has already made.
  static Result<World> open(Options options);

  /// A rank over a transport that is already connected (tests, own transports).
  static World over(std::unique_ptr<Transport> transport, Options options);

  /// Groups and strategies that were made with it stay valid.
  World(World&&) noexcept;
  /// Leaves the world that was here.
  World& operator=(World&&) noexcept;
  /// Writes the trace if one was asked for, then leaves. Others that still need this rank will see
  /// it lost.
  ~World();

  /// This process, 0 .. ranks() - 1.
  Rank rank() const { return options().rank; }
  /// How many processes there are.
  int ranks() const { return options().ranks; }
  /// As from_environment() or the caller made them.
  const Options& options() const;
  /// "shm", "tcp" or "mpi".
  std::string_view transport_name() const;

  /// What drives its communication.
  Progress& progress() const;
  /// Of the operations of this world's groups and strategies.
  OperationOrder& operation_order() const;
  /// Disabled unless Options::trace names a file.
  Trace& trace() const;
  /// At the level of Options::log.
  const Log& log() const;

 private:
  struct State;
  explicit World(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dist
