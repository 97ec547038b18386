// SPDX-License-Identifier: Apache-2.0
// What exchanges share of a step: its tasks on the transport, its waits and updates, and the
// account of all that in the step's report.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/exchange.h"
#include "allreduce/exposure.h"

namespace dist::allreduce {

/// Options of a task among all ranks of the world, labelled "ring: WHAT".
AllReduceOptions ring_options(const ExchangeContext& context, std::span<std::byte> data,
                              DType dtype, std::string_view what);

/// Calls `waiting`; the time counts as exposed communication, and stands in the trace as `what`.
template <typename Waiting>
Status wait_exposed(const ExchangeContext& context, std::string_view what, StepReport* report,
                    const Waiting& waiting) {
  const auto begin = Clock::now();
  Status outcome = waiting();
  const auto end = Clock::now();
  report->communication_exposed += end - begin;
  context.trace.record(Activity::wait, what, begin, end);
  return outcome;
}

/// Updates a range of the parameters by the arena's gradients, which hold sums over all ranks, as
/// step report->step, with the mean over the report's contributors; with the rule mean-gradient
/// turns the sums into means instead. Without a contributor there is nothing to apply. `squares`:
/// what add_squares() found over all sums, where norms are needed.
void update_from_sums(const ExchangeContext& context, Range range, StepReport* report,
                      std::span<const double> squares = {});

/// Updater::add_squares() over a range of such sums.
void add_squares(const ExchangeContext& context, Range range, std::span<double> squares);

/// Cancels all that this rank's transport does, since it leaves a step half-way: the others hear of
/// it, and nothing touches the arena any more.
void give_up_step(const ExchangeContext& context);

/// The tasks of a step, one after the other, and after those of the world's other strategies and
/// groups, since they share a channel. Destroyed half-way it gives
/// the step up.
class StepTasks {
 public:
  /// `context` is copied; what it refers to outlives this.
  explicit StepTasks(const ExchangeContext& context);
  ~StepTasks();
  StepTasks(const StepTasks&) = delete;
  StepTasks& operator=(const StepTasks&) = delete;

  /// What was sent until now belongs to no step.
  void begin() { bytes_sent_ = context_.progress.counters().sent; }

  /// What was sent by a task of another kind belongs to no step either.
  void leave_out(Bytes bytes) { bytes_sent_ += bytes; }

  /// The task, which exchanges `bytes`, starts when the one before it and those of `preparation`
  /// have ended.
  void submit(std::unique_ptr<Task> task, Bytes bytes, std::vector<Ticket> preparation = {});
  std::size_t size() const { return entries_.size(); }

  Status wait(std::size_t task, StepReport* report);

  /// After all have been waited for: adds to the report bytes, the time in which at least one was
  /// in flight, and the bound of exposed communication.
  void finish(StepReport* report);

 private:
  struct Entry {
    Ticket ticket;
    Ticket first;  // where there is a preparation, its first task
    Transfer transfer;
  };

  const ExchangeContext context_;
  std::shared_ptr<const std::vector<Rank>> others_;
  std::vector<Entry> entries_;
  Bytes bytes_sent_;                       // before this step
  std::optional<TimePoint> backward_end_;  // of this step: somebody waits
  LinkFit link_;
};

}  // namespace dist::allreduce
