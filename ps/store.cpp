// SPDX-License-Identifier: Apache-2.0
#include "ps/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "libdist/check.h"
#include "libdist/checkpoint/update_state.h"
#include "libdist/memory/reduce.h"
#include "libdist/plan.h"
#include "ps/compensation.h"

namespace dist::ps {
namespace {

// Small enough that a gradient is still in the first-level cache when the update reads it.
constexpr std::size_t kBlockBytes = 8192;

}  // namespace

Result<std::unique_ptr<Store>> Store::create(StoreOptions options, Trace& trace) {
  const Elems elems = options.map->server_elems[static_cast<std::size_t>(options.server)];
  options.layout.elems = elems;
  auto updater =
      Updater::create(options.update, options.layout, options.dtype, options.alias_window);
  DIST_TRY(updater);
  auto parameters = Mapping::map(bytes_of(elems, options.dtype), options.alias_window);
  DIST_TRY_BECAUSE(parameters, "parameters of the server's shard");
  std::vector<Mapping> given;
  for (int w = 0; w < options.workers && options.rules.delay_compensation != 0; ++w) {
    auto copy = Mapping::map(bytes_of(elems, options.dtype), options.alias_window);
    DIST_TRY_BECAUSE(copy, "delay compensation: a copy of the server's shard for each worker");
    given.push_back(*std::move(copy));
  }
  const Elems summed = updater->needs_norms() ? elems : Elems();
  auto sums = Mapping::map(bytes_of(summed, options.dtype), options.alias_window);
  DIST_TRY_BECAUSE(sums, "sums of the server's shard");
  return std::unique_ptr<Store>(new Store(std::move(options), trace, *std::move(updater),
                                          *std::move(parameters), std::move(given),
                                          *std::move(sums)));
}

Store::Store(StoreOptions options, Trace& trace, Updater updater, Mapping parameters,
             std::vector<Mapping> given, Mapping sums)
    : options_(std::move(options)),
      trace_(trace),
      updater_(std::move(updater)),
      parameters_(std::move(parameters)),
      given_(std::move(given)),
      sums_(std::move(sums)),
      steps_(static_cast<std::size_t>(options_.workers)),
      histogram_(kHistogramEntries, 0) {
  const auto pieces = options_.map->of_server[static_cast<std::size_t>(options_.server)].size();
  for (std::size_t at = 0; at < pieces; ++at) {
    entries_.push_back({Policy(options_.rules, options_.workers), {}, {}});
    entries_.back().contributions.resize(static_cast<std::size_t>(options_.workers));
  }
}

const Piece& Store::piece(std::size_t at) const {
  return options_.map
      ->pieces[options_.map->of_server[static_cast<std::size_t>(options_.server)][at]];
}

std::span<std::byte> Store::parameters(std::size_t at) const {
  if (outside_.empty()) return shard_bytes(parameters_, at);
  const Range range = piece(at).range;
  const auto elem_bytes = size_of(options_.dtype);
  return outside_.subspan(range.begin * elem_bytes, range.elems() * elem_bytes);
}

std::span<std::byte> Store::shard_bytes(const Mapping& memory, std::size_t at) const {
  const Range local = piece(at).local;
  const auto elem_bytes = size_of(options_.dtype);
  return memory.bytes().subspan(local.begin * elem_bytes, local.elems() * elem_bytes);
}

Status Store::contribute(std::size_t at, int worker, std::uint64_t step, std::uint64_t version,
                         std::span<const std::byte> data, Staging::Buffer buffer) {
  Entry& entry = entries_[at];
  Contribution& from = entry.contributions.at(static_cast<std::size_t>(worker));
  if (version != entry.policy.given(worker)) {
    return Status::protocol(
        fmt::format("worker {} pushed a gradient of version {}, it was given version {}", worker,
                    version, entry.policy.given(worker)));
  }
  if (!entry.policy.longest_waiting()) entry.waiting_since = Clock::now();
  const auto verdict = entry.policy.contribute(worker, step);
  DIST_TRY(verdict);
  DIST_ASSERT(data.size() == parameters(at).size(), "a contribution has its piece's size");
  if (*verdict == Policy::Verdict::dropped) {
    drop(at, worker);
    return {};
  }
  from.data = data;
  from.buffer = std::move(buffer);
  return {};
}

void Store::apply(std::size_t at) {
  const Update update = take_update(at);
  run(update);
  finish(update);
}

Store::Update Store::take_update(std::size_t at) {
  Entry& entry = entries_[at];
  DIST_ASSERT(!entry.busy, "one update of a piece at a time");
  Update update{.at = at, .version = entry.policy.version(), .workers = {}, .gradients = {}};
  auto taken = entry.policy.take_update();
  for (const int worker : taken.dropped) drop(at, worker);
  for (const int worker : taken.applied) {
    update.gradients.push_back(entry.contributions[static_cast<std::size_t>(worker)].data);
  }
  update.age = update.version - entry.policy.given(taken.applied.front());
  update.workers = std::move(taken.applied);
  entry.busy = true;
  return update;
}

void Store::run(const Update& update) {
  const auto begin = Clock::now();
  const std::size_t at = update.at;
  if (update.summands != 0) {
    update_by_norms(update);
  } else if (update.workers.size() == 1 && !updater_.needs_norms()) {
    update_from_one(update);
  } else {
    const Range bucket = options_.map->buckets[piece(at).bucket].range;
    for (int chunk = 0; chunk < options_.workers; ++chunk) {
      const Range part = intersect(piece(at).range, chunk_range(bucket, options_.workers, chunk));
      if (part.empty()) continue;
      // Who did not contribute is passed over; the order of the others stays.
      const auto first =
          std::lower_bound(update.workers.begin(), update.workers.end(), first_summand(chunk));
      update_chunk(update, static_cast<std::size_t>(first - update.workers.begin()), part);
    }
  }
  const bool several = update.workers.size() > 1;
  trace_.record(several ? Activity::reduce : Activity::update,
                several ? "sum and update" : "update", begin, Clock::now(),
                Bytes(parameters(at).size() * std::max<std::size_t>(update.workers.size(), 1)));
}

void Store::finish(const Update& update) {
  Entry& entry = entries_[update.at];
  for (const int worker : update.workers) {
    Contribution& from = entry.contributions[static_cast<std::size_t>(worker)];
    from.staleness = update.version - entry.policy.given(worker);
    from.data = {};
    from.buffer = {};
    ++applied_;
    note_step(worker, from.staleness);
  }
  entry.waiting_since = Clock::now();
  entry.busy = updater_.needs_norms() && update.summands == 0;
  if (entry.busy) entry.summands = update.workers.size();
}

bool Store::sums_complete() const {
  return !entries_.empty() && std::all_of(entries_.begin(), entries_.end(),
                                          [](const Entry& entry) { return entry.summands != 0; });
}

std::vector<double> Store::squares() const {
  std::vector<double> squares(updater_.square_count(), 0);
  for (std::size_t at = 0; at < entries_.size(); ++at) {
    updater_.add_squares(parameters(at), shard_bytes(sums_, at), piece(at).local.begin, squares);
  }
  return squares;
}

// Nobody has pushed anything since the first of these sums: pulls wait until all pieces are
// updated.
std::vector<Store::Update> Store::take_updates_by_norms(std::vector<double> squares) {
  DIST_ASSERT(sums_complete(), "norms are of whole steps");
  squares_ = std::move(squares);
  std::vector<Update> updates;
  for (std::size_t at = 0; at < entries_.size(); ++at) {
    updates.push_back({.at = at,
                       .version = entries_[at].policy.version() - 1,
                       .workers = {},
                       .gradients = {},
                       .summands = std::exchange(entries_[at].summands, 0)});
  }
  return updates;
}

void Store::update_by_norms(const Update& update) {
  updater_.apply(parameters(update.at), shard_bytes(sums_, update.at), piece(update.at).local.begin,
                 {1.0 / static_cast<double>(update.summands), update.version, squares_});
}

void Store::update_from_one(const Update& update) {
  const auto gradient = update.gradients.front();
  const auto first = piece(update.at).local.begin;
  const UpdateStep step{options_.rules.gradient_scale(update.age), update.version};
  if (options_.rules.delay_compensation == 0 || update.age == 0) {
    updater_.apply(parameters(update.at), gradient, first, step);
    return;
  }
  const auto now = parameters(update.at);
  const auto then =
      shard_bytes(given_[static_cast<std::size_t>(update.workers.front())], update.at);
  alignas(64) std::array<std::byte, kBlockBytes> block;
  for (std::size_t next = 0; next < gradient.size(); next += kBlockBytes) {
    const auto bytes = std::min(kBlockBytes, gradient.size() - next);
    const auto out = std::span(block).first(bytes);
    compensate(out, gradient.subspan(next, bytes), now.subspan(next, bytes),
               then.subspan(next, bytes), options_.rules.delay_compensation, options_.dtype);
    updater_.apply(now.subspan(next, bytes), out, first + next / size_of(options_.dtype), step);
  }
}

// The sum begins with the gradient numbered `first`.
void Store::update_chunk(const Update& update, std::size_t first, Range chunk) {
  const auto elem_bytes = size_of(options_.dtype);
  const std::size_t count = update.gradients.size();
  const auto skipped = chunk.begin - piece(update.at).range.begin;
  const auto part = [&](auto bytes) {
    return bytes.subspan(skipped * elem_bytes, chunk.elems() * elem_bytes);
  };
  std::vector<std::span<const std::byte>> sources(count);
  for (std::size_t s = 0; s < count; ++s) {
    sources[s] = part(update.gradients[(first + s) % count]);
  }
  if (updater_.needs_norms()) {
    const auto sum = part(shard_bytes(sums_, update.at));
    reduce_in_order({&sum, 1}, sources, options_.dtype, Reduction::sum);
    return;
  }
  updater_.apply_sum(part(parameters(update.at)), sources, piece(update.at).local.begin + skipped,
                     {1.0 / static_cast<double>(count), update.version});
}

void Store::drop(std::size_t at, int worker) {
  Contribution& from = entries_[at].contributions[static_cast<std::size_t>(worker)];
  from.data = {};
  from.buffer = {};
  note_step(worker, std::nullopt);
}

// A piece of the worker's step was applied with that staleness, or dropped.
void Store::note_step(int worker, std::optional<std::uint64_t> staleness) {
  StepStaleness& step = steps_[static_cast<std::size_t>(worker)];
  step.largest = std::max(step.largest, staleness.value_or(0));
  step.applied |= staleness.has_value();
  if (++step.pieces < entries_.size()) return;
  if (step.applied) {
    ++histogram_[std::min<std::uint64_t>(step.largest, kHistogramEntries - 1)];
    staleness_max_ = std::max(staleness_max_, step.largest);
    staleness_sum_ += step.largest;
  }
  step = {};
}

ServerReport Store::report() const {
  ServerReport report;
  report.applied = applied_;
  for (const Entry& entry : entries_) {
    report.dropped += entry.policy.dropped();
    report.doubled += entry.policy.doubled();
  }
  if (!options_.rules.reports_staleness) return report;
  report.staleness = histogram_;
  report.staleness_max = staleness_max_;
  const auto steps = std::accumulate(histogram_.begin(), histogram_.end(), std::uint64_t{0});
  if (steps != 0) {
    report.staleness_mean = static_cast<double>(staleness_sum_) / static_cast<double>(steps);
  }
  return report;
}

bool Store::may_answer(std::size_t at, int worker, std::uint64_t steps) const {
  const Entry& entry = entries_[at];
  return entry.initialised && !entry.busy && entry.policy.may_answer(worker, steps);
}

Store::Given Store::give(std::size_t at, int worker) {
  Entry& entry = entries_[at];
  entry.policy.give(worker);
  if (!given_.empty()) {
    const auto now = parameters(at);
    std::memcpy(shard_bytes(given_[static_cast<std::size_t>(worker)], at).data(), now.data(),
                now.size());
  }
  return {entry.policy.version(), entry.contributions[static_cast<std::size_t>(worker)].staleness};
}

void Store::end(int worker) {
  for (Entry& entry : entries_) entry.policy.end(worker);
}

checkpoint::Snapshot Store::snapshot(std::uint64_t step) const {
  const ShardMap& map = *options_.map;
  checkpoint::Snapshot copy(step, map.owners_below(options_.server),
                            map.owners_below(map.servers()));
  for (std::size_t at = 0; at < entries_.size(); ++at) {
    checkpoint::add_range(&copy, piece(at).range, entries_[at].policy.version(), parameters(at),
                          updater_, piece(at).local.begin);
  }
  return copy;
}

Status Store::resume_parameters(const checkpoint::Source& source) {
  for (std::size_t at = 0; at < entries_.size(); ++at) {
    DIST_TRY_BECAUSE(source.read(piece(at).range, 0, parameters(at)), "resume");
    mark_initialised(at);
  }
  return {};
}

Status Store::resume(const checkpoint::Source& source) {
  for (std::size_t at = 0; at < entries_.size(); ++at) {
    entries_[at].policy.resume(source.version(piece(at).range));
    DIST_TRY(checkpoint::load_state(source, piece(at).range, &updater_, piece(at).local.begin));
  }
  return {};
}

std::uint64_t Store::joining_step() const {
  std::uint64_t latest = 0;
  for (const Entry& entry : entries_) latest = std::max(latest, entry.policy.joining_step());
  return latest;
}

void Store::join(int worker, std::uint64_t step) {
  for (Entry& entry : entries_) {
    entry.policy.join(worker, step);
    entry.contributions[static_cast<std::size_t>(worker)].staleness = 0;
  }
}

void Store::leave(int worker) {
  const auto who = static_cast<std::size_t>(worker);
  for (Entry& entry : entries_) {
    if (entry.policy.leave(worker)) entry.contributions[who] = {};
  }
  steps_[who] = {};
}

bool Store::ready() const {
  return std::all_of(entries_.begin(), entries_.end(),
                     [](const Entry& entry) { return entry.initialised; });
}

std::optional<TimePoint> Store::waiting_since(std::size_t at) const {
  const Entry& entry = entries_[at];
  return entry.policy.longest_waiting() ? std::optional(entry.waiting_since) : std::nullopt;
}

}  // namespace dist::ps
