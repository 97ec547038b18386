// SPDX-License-Identifier: Apache-2.0
#include "allreduce/step_tasks.h"

#include <fmt/format.h>

#include <algorithm>

#include "libdist/memory/reduce.h"

namespace dist::allreduce {

AllReduceOptions ring_options(const ExchangeContext& context, std::span<std::byte> data,
                              DType dtype, std::string_view what) {
  AllReduceOptions options;
  options.data = data;
  options.dtype = dtype;
  options.rank = context.options.rank;
  options.ranks = context.options.ranks;
  options.segment_bytes = context.options.segment_bytes.value;
  options.label = fmt::format("ring: {}", what);
  return options;
}

void update_from_sums(const ExchangeContext& context, Range range, StepReport* report,
                      std::span<const double> squares) {
  if (report->contributors == 0) return;
  const Arena& arena = context.arena;
  const auto begin = Clock::now();
  if (context.updater.updates_parameters()) {
    context.updater.apply(arena.parameters(range), arena.gradients(range), range.begin,
                          {1.0 / report->contributors, report->step, squares});
  } else if (report->contributors > 1) {
    divide(arena.gradients(range), static_cast<std::uint64_t>(report->contributors), arena.dtype());
  }
  const auto end = Clock::now();
  report->update += end - begin;
  context.trace.record(Activity::update, "update", begin, end,
                       bytes_of(Elems(range.elems()), arena.dtype()));
}

void add_squares(const ExchangeContext& context, Range range, std::span<double> squares) {
  const Arena& arena = context.arena;
  context.updater.add_squares(arena.parameters(range), arena.gradients(range), range.begin,
                              squares);
}

void give_up_step(const ExchangeContext& context) {
  context.progress.cancel(Status::cancelled(
      fmt::format("ring: rank {} gave up a step before finish_step()", context.options.rank)));
}

StepTasks::StepTasks(const ExchangeContext& context)
    : context_(context), bytes_sent_(context.progress.counters().sent) {
  std::vector<Rank> others;
  for (Rank r = 0; r < context.options.ranks; ++r) {
    if (r != context.options.rank) others.push_back(r);
  }
  others_ = std::make_shared<const std::vector<Rank>>(std::move(others));
}

StepTasks::~StepTasks() {
  if (std::all_of(entries_.begin(), entries_.end(),
                  [](const Entry& entry) { return entry.ticket.finished(); })) {
    return;
  }
  give_up_step(context_);
}

void StepTasks::submit(std::unique_ptr<Task> task, Bytes bytes, std::vector<Ticket> preparation) {
  const Transfer transfer{Clock::now(), bytes};
  const Ticket ticket =
      context_.order.submit(context_.progress, std::move(task), others_, preparation);
  entries_.push_back({ticket, preparation.empty() ? ticket : preparation.front(), transfer});
}

Status StepTasks::wait(std::size_t task, StepReport* report) {
  if (!backward_end_) backward_end_ = Clock::now();
  const Ticket& ticket = entries_[task].ticket;
  return wait_exposed(context_, "wait for gradients", report, [&] { return ticket.wait(); });
}

void StepTasks::finish(StepReport* report) {
  const auto sent = context_.progress.counters().sent;
  report->bytes_sent += sent - bytes_sent_;
  bytes_sent_ = sent;
  // Tasks are ordered by their beginning.
  TimePoint busy_until;
  std::vector<Transfer> transfers;
  for (std::size_t task = 0; task < entries_.size(); ++task) {
    const auto& [ticket, first, transfer] = entries_[task];
    const auto begin = std::max(first.started(), busy_until);
    report->communication_busy += std::max(ticket.ended() - begin, Duration(0));
    busy_until = std::max(ticket.ended(), busy_until);
    link_.note(task, transfer.bytes, ticket.ended() - ticket.started());
    transfers.push_back(transfer);
  }
  report->communication_exposed_bound +=
      least_exposed(transfers, backward_end_.value_or(busy_until), link_.model());
  backward_end_.reset();
  entries_.clear();
}

}  // namespace dist::allreduce
