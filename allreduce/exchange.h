// SPDX-License-Identifier: Apache-2.0
// How the gradients of a step become the parameters of the next one, behind the strategy "ring":
// over a transport, or in the memory of one host.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/bucket/bucket.h"
#include "libdist/host/hosts.h"
#include "libdist/operation_order.h"
#include "libdist/options.h"
#include "libdist/progress.h"
#include "libdist/strategy.h"
#include "libdist/trace.h"
#include "libdist/update.h"

namespace dist::allreduce {

/// What every exchange works on; all of it outlives the exchange.
struct ExchangeContext {
  Progress& progress;
  OperationOrder& order;
  Trace& trace;
  const Options& options;
  Arena& arena;
  const std::vector<Bucket>& buckets;
  Updater& updater;
};

class Exchange {
 public:
  virtual ~Exchange() = default;

  /// As it stands in the step's report.
  virtual std::string_view algorithm() const = 0;

  /// Every rank's parameters become those of rank 0.
  virtual Status begin() = 0;

  /// After begin(): the next step is number `step` of the training; 0 if this is not called. For
  /// those who update before finish() tells them.
  virtual void resume_at(std::uint64_t /*step*/) {}

  /// The gradients of a bucket are final on this rank. Buckets come in their order. Never blocks.
  virtual void start(std::size_t bucket) = 0;

  /// All buckets were started: returns when the parameters of this one are those of the next step.
  /// Adds times to the report that finish() of the same step is given.
  virtual Status await(std::size_t bucket, StepReport* report) = 0;

  /// All buckets were started: returns when this rank's parameters are those of the next step. Adds
  /// bytes and times to the report.
  virtual Status finish(StepReport* report) = 0;

  /// From the next step on this rank takes part without contributing: its gradients are the neutral
  /// ones, and the mean is over the others. Where nobody contributes, a step changes nothing.
  virtual void join() = 0;

  /// After begin(): the part of a bucket whose state of the update is kept here.
  virtual Range updated(Range bucket) const = 0;

  /// The part of that which this rank adds to a checkpoint: those of all ranks are the bucket,
  /// once.
  virtual Range saved(Range bucket) const = 0;

  /// What compression holds back here, to a checkpoint of so many steps, and from one.
  virtual void add_held_back(checkpoint::Snapshot* /*snapshot*/, std::uint64_t /*steps*/) const {}
  virtual Status load_held_back(const checkpoint::Source& /*source*/) { return {}; }

  /// No step follows; the parameters are this rank's own afterwards. Waits for the others.
  virtual Status end() = 0;
};

/// Buckets travel over the world's transport while the backward pass runs; every rank updates all
/// of its replica. Error: resource.
Result<std::unique_ptr<Exchange>> make_transport_exchange(const ExchangeContext& context);

/// The ranks of one host, the only one, sum, update and share in one sweep over each other's
/// arenas. Collective (every rank of the world calls it); error `unavailable`, on all ranks alike,
/// where memory cannot be shared.
Result<std::unique_ptr<Exchange>> make_host_exchange(const ExchangeContext& context,
                                                     const Hosts& hosts);

/// Several hosts with the same number of ranks: each rank sums its chunk within its host, then with
/// the ranks at the same place of the other hosts round a ring, and updates it; the ranks of a host
/// share the parameters. Collective; errors as above.
Result<std::unique_ptr<Exchange>> make_hierarchical_exchange(const ExchangeContext& context,
                                                             const Hosts& hosts);

}  // namespace dist::allreduce
