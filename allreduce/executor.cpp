// SPDX-License-Identifier: Apache-2.0
// Order is everything here: a transport delivers the messages of a pair in order, so sends leave
// and receives are posted strictly round by round, segment by segment.
#include "allreduce/executor.h"

#include <fmt/format.h>

#include <array>

#include "libdist/check.h"
#include "libdist/memory/reduce.h"

namespace dist::allreduce {
namespace {

// Enough to keep a wire busy while one segment is being added; few enough to stay in the cache.
constexpr std::size_t kReceivesInFlight = 4;
constexpr std::size_t kSendsInFlight = 8;

bool meet(Range a, Range b) { return !intersect(a, b).empty(); }

// The latest round in [0, end) whose `side` meets `range`.
std::optional<std::size_t> latest(const Plan& plan, std::size_t end, Range Round::*side,
                                  Range range) {
  for (std::size_t k = end; k-- > 0;) {
    if (meet(plan.rounds[k].*side, range)) return k;
  }
  return std::nullopt;
}

}  // namespace

Executor::Executor(Plan plan, AllReduceOptions options, Trace& trace)
    : plan_(std::move(plan)),
      options_(std::move(options)),
      trace_(trace),
      segment_elems_(std::max<std::uint64_t>(options_.segment_bytes / size_of(options_.dtype), 1)),
      next_receive_(plan_, &Round::receive, segment_elems_),
      received_(next_receive_),
      next_send_(plan_, &Round::send, segment_elems_),
      sent_(next_send_) {
  DIST_ASSERT(options_.data.size() == bytes_of(Elems(plan_.elems), options_.dtype).value,
              "the data is not as long as the plan");
  find_hazards();
}

void Executor::find_hazards() {
  std::uint64_t longest = 0;  // elements of the longest segment to be reduced
  for (std::size_t k = 0; k < plan_.rounds.size(); ++k) {
    const Round& round = plan_.rounds[k];
    DIST_ASSERT(round.action != Action::copy || !meet(round.send, round.receive),
                "a round copies over what it sends");
    hazards_.push_back({latest(plan_, k, &Round::receive, round.send),
                        latest(plan_, k + 1, &Round::send, round.receive),
                        latest(plan_, k, &Round::receive, round.receive)});
    if (round.action != Action::copy) {
      longest = std::max(longest, std::min(round.receive.elems(), segment_elems_));
    }
  }
  slot_bytes_ = longest * size_of(options_.dtype);
  if (slot_bytes_ != 0) {
    scratch_ = std::make_unique_for_overwrite<std::byte[]>(slot_bytes_ * kReceivesInFlight);
  }
}

Result<Advance> Executor::advance(Transport& transport) {
  if (receiving_since_ == TimePoint()) receiving_since_ = sending_since_ = Clock::now();
  const auto received = finish_receive(transport);
  DIST_TRY(received);
  const auto sent = finish_sends(transport);
  DIST_TRY(sent);
  bool moved = *received || *sent;
  moved |= post_receives(transport);
  moved |= post_sends(transport);
  if (received_.at_end() && sent_.at_end()) {
    finish_mean();
    return Advance::finished;
  }
  return moved ? Advance::moved : Advance::idle;
}

// The elements of `segment` have arrived from all earlier rounds.
bool Executor::may_send(std::size_t round, Range segment) const {
  return passed(received_, hazards_[round].receive_before_send, &Round::receive, segment);
}

// No send is still reading these elements, and earlier arrivals are in place.
bool Executor::may_write(std::size_t round, Range segment) const {
  const Hazards& before = hazards_[round];
  return passed(sent_, before.send_before_receive, &Round::send, segment) &&
         passed(received_, before.receive_before_receive, &Round::receive, segment);
}

// Whether `done` has left behind what round `before` did to `segment`.
bool Executor::passed(const SegmentCursor& done, std::optional<std::size_t> before,
                      Range Round::*side, Range segment) const {
  return !before || done.passed(*before, std::min(segment.end, (plan_.rounds[*before].*side).end));
}

bool Executor::post_receives(Transport& transport) {
  bool moved = false;
  while (!next_receive_.at_end() && receives_.size() < kReceivesInFlight) {
    const Round& hop = next_receive_.hop();
    const Range segment = next_receive_.segment();
    Flight flight{{}, next_receive_.round(), segment, nullptr};
    std::span<std::byte> target = bytes(segment);
    if (hop.action != Action::copy) {
      flight.scratch = scratch_.get() + reduces_posted_++ % kReceivesInFlight * slot_bytes_;
      target = {flight.scratch, target.size()};
    } else if (!may_write(flight.round, segment)) {
      break;
    }
    flight.operation = transport.receive(peer(hop.from), options_.channel, target);
    receives_.push_back(flight);
    next_receive_.step();
    moved = true;
  }
  return moved;
}

bool Executor::post_sends(Transport& transport) {
  bool moved = false;
  while (!next_send_.at_end() && sends_.size() < kSendsInFlight &&
         may_send(next_send_.round(), next_send_.segment())) {
    const Range segment = next_send_.segment();
    const auto operation =
        transport.send(peer(next_send_.hop().to), options_.channel, bytes(segment));
    sends_.push_back({operation, next_send_.round(), segment, nullptr});
    next_send_.step();
    moved = true;
  }
  return moved;
}

// At most one, so that the segment travels on before the next is added.
Result<bool> Executor::finish_receive(Transport& transport) {
  if (receives_.empty()) return false;
  const Flight& flight = receives_.front();
  if (!transport.finished(flight.operation)) return false;
  if (flight.scratch != nullptr && !may_write(flight.round, flight.segment)) return false;
  const Status outcome = transport.take(flight.operation);
  if (!outcome.ok()) return told(outcome, flight.round, true);
  if (flight.scratch != nullptr) reduce(flight);
  const std::size_t round = flight.round;
  receives_.pop_front();
  received_.step();
  if (received_.round() != round) {
    trace_round(Activity::receive, round, plan_.rounds[round].receive, &receiving_since_);
  }
  return true;
}

Result<bool> Executor::finish_sends(Transport& transport) {
  bool moved = false;
  while (!sends_.empty() && transport.finished(sends_.front().operation)) {
    const std::size_t round = sends_.front().round;
    const Status outcome = transport.take(sends_.front().operation);
    if (!outcome.ok()) return told(outcome, round, false);
    sends_.pop_front();
    sent_.step();
    if (sent_.round() != round) {
      trace_round(Activity::send, round, plan_.rounds[round].send, &sending_since_);
    }
    moved = true;
  }
  return moved;
}

void Executor::reduce(const Flight& flight) {
  const auto target = bytes(flight.segment);
  const TraceScope scope(trace_, Activity::reduce, options_.label, Bytes(target.size()));
  const std::span<const std::byte> received(flight.scratch, target.size());
  if (plan_.rounds[flight.round].action == Action::reduce) {
    reduce_into(target, received, options_.dtype, options_.reduction);
    return;
  }
  // Here a mean only adds: the number of sources is not that of contributions.
  const auto reduction =
      options_.reduction == Reduction::mean ? Reduction::sum : options_.reduction;
  const std::array<std::span<std::byte>, 1> outs = {target};
  const std::array<std::span<const std::byte>, 2> sources = {received, target};
  reduce_in_order(outs, sources, options_.dtype, reduction);
}

void Executor::finish_mean() {
  if (options_.reduction != Reduction::mean || plan_.result.empty()) return;
  divide(bytes(plan_.result), static_cast<std::uint64_t>(options_.ranks), options_.dtype);
}

std::span<std::byte> Executor::bytes(Range segment) const {
  return options_.data.subspan(segment.begin * size_of(options_.dtype),
                               segment.elems() * size_of(options_.dtype));
}

Status Executor::told(const Status& why, std::size_t round, bool receiving) const {
  const Round& hop = plan_.rounds[round];
  return why
      .because(receiving ? fmt::format("receive from rank {}", peer(hop.from))
                         : fmt::format("send to rank {}", peer(hop.to)))
      .because(fmt::format("round {}", round))
      .because(options_.label);
}

std::string Executor::waits_for() const {
  if (!receives_.empty()) {
    const std::size_t round = receives_.front().round;
    return fmt::format("{}, round {}: receive from rank {}", options_.label, round,
                       peer(plan_.rounds[round].from));
  }
  if (!sends_.empty()) {
    const std::size_t round = sends_.front().round;
    return fmt::format("{}, round {}: send to rank {}", options_.label, round,
                       peer(plan_.rounds[round].to));
  }
  return options_.label;
}

void Executor::trace_round(Activity activity, std::size_t round, Range range, TimePoint* since) {
  if (!trace_.enabled()) return;
  const auto now = Clock::now();
  trace_.record(activity, fmt::format("{}, round {}", options_.label, round), *since, now,
                bytes_of(Elems(range.elems()), options_.dtype));
  *since = now;
}

}  // namespace dist::allreduce
