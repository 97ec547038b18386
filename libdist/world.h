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

  World(World&&) noexcept;
  World& operator=(World&&) noexcept;
  /// Writes the trace if one was asked for, then leaves. Others that still need this rank will see
  /// it lost.
  ~World();

  Rank rank() const { return options().rank; }
  int ranks() const { return options().ranks; }
  const Options& options() const;
  std::string_view transport_name() const;

  Progress& progress() const;
  /// Of the operations of this world's groups and strategies.
  OperationOrder& operation_order() const;
  Trace& trace() const;
  const Log& log() const;

 private:
  struct State;
  explicit World(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dist
