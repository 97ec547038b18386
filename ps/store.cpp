// SPDX-License-Identifier: Apache-2.0
#include "ps/store.h"

#include <fmt/format.h>

#include <algorithm>

#include "libdist/check.h"
#include "libdist/checkpoint/update_state.h"
#include "libdist/memory/reduce.h"
#include "libdist/plan.h"

namespace dist::ps {
namespace {

// Small enough that a sum is still in the first-level cache when the update reads it.
constexpr std::uint64_t kBlockElems = 2048;

}  // namespace

Result<std::unique_ptr<Store>> Store::create(StoreOptions options, Trace& trace) {
  const Elems elems = options.map->server_elems[static_cast<std::size_t>(options.server)];
  auto updater = Updater::create(options.rule, elems, options.dtype, options.alias_window);
  DIST_TRY(updater);
  auto parameters = Mapping::map(bytes_of(elems, options.dtype), options.alias_window);
  DIST_TRY_BECAUSE(parameters, "parameters of the server's shard");
  return std::unique_ptr<Store>(
      new Store(std::move(options), trace, *std::move(updater), *std::move(parameters)));
}

Store::Store(StoreOptions options, Trace& trace, Updater updater, Mapping parameters)
    : options_(std::move(options)),
      trace_(trace),
      updater_(std::move(updater)),
      parameters_(std::move(parameters)),
      block_(kBlockElems * size_of(options_.dtype)),
      steps_(static_cast<std::size_t>(options_.workers)),
      histogram_(kHistogramEntries, 0) {
  const auto pieces = options_.map->of_server[static_cast<std::size_t>(options_.server)].size();
  for (std::size_t at = 0; at < pieces; ++at) {
    entries_.push_back({Policy(options_.rules, options_.workers), {}, {}, false});
    entries_.back().contributions.resize(static_cast<std::size_t>(options_.workers));
  }
}

const Piece& Store::piece(std::size_t at) const {
  return options_.map
      ->pieces[options_.map->of_server[static_cast<std::size_t>(options_.server)][at]];
}

std::span<std::byte> Store::parameters(std::size_t at) const {
  const Range local = piece(at).local;
  const auto elem_bytes = size_of(options_.dtype);
  return parameters_.bytes().subspan(local.begin * elem_bytes, local.elems() * elem_bytes);
}

Status Store::contribute(std::size_t at, int worker, std::uint64_t step, std::uint64_t version,
                         std::span<const std::byte> data, Staging::Buffer buffer) {
  Entry& entry = entries_[at];
  Contribution& from = entry.contributions.at(static_cast<std::size_t>(worker));
  if (version != from.given_version) {
    return Status::protocol(
        fmt::format("worker {} pushed a gradient of version {}, it was given version {}", worker,
                    version, from.given_version));
  }
  if (!entry.policy.longest_waiting()) entry.waiting_since = Clock::now();
  DIST_TRY(entry.policy.contribute(worker, step));
  DIST_ASSERT(data.size() == parameters(at).size(), "a contribution has its piece's size");
  from.data = data;
  from.buffer = std::move(buffer);
  return {};
}

void Store::apply(std::size_t at) {
  Entry& entry = entries_[at];
  const auto version_before = entry.policy.version();
  const auto workers = entry.policy.take_update();
  const auto begin = Clock::now();
  sum_and_update(at, workers);
  const auto end = Clock::now();
  trace_.record(workers.size() > 1 ? Activity::reduce : Activity::update,
                workers.size() > 1 ? "sum and update" : "update", begin, end,
                Bytes(parameters(at).size() * workers.size()));
  for (const int worker : workers) {
    note_staleness(at, worker, version_before);
    Contribution& from = entry.contributions[static_cast<std::size_t>(worker)];
    from.data = {};
    from.buffer = {};
  }
  entry.waiting_since = end;
}

void Store::sum_and_update(std::size_t at, const std::vector<int>& workers) {
  if (workers.size() == 1) {
    const auto one = static_cast<std::size_t>(workers.front());
    updater_.apply(parameters(at), entries_[at].contributions[one].data, piece(at).local.begin, 1);
    return;
  }
  const Range bucket = options_.map->buckets[piece(at).bucket].range;
  for (int chunk = 0; chunk < options_.workers; ++chunk) {
    const Range part = intersect(piece(at).range, chunk_range(bucket, options_.workers, chunk));
    if (part.empty()) continue;
    // Who did not contribute is passed over; the order of the others stays.
    auto ordered = workers;
    const auto first = std::lower_bound(ordered.begin(), ordered.end(), first_summand(chunk));
    std::rotate(ordered.begin(), first, ordered.end());
    update_chunk(at, ordered, part);
  }
}

void Store::update_chunk(std::size_t at, const std::vector<int>& ordered, Range chunk) {
  const auto elem_bytes = size_of(options_.dtype);
  const double scale = 1.0 / static_cast<double>(ordered.size());
  std::vector<std::span<const std::byte>> sources(ordered.size());
  for (auto next = chunk.begin; next < chunk.end; next += kBlockElems) {
    const auto elems = std::min(kBlockElems, chunk.end - next);
    const auto skipped = next - piece(at).range.begin;
    for (std::size_t s = 0; s < ordered.size(); ++s) {
      const auto from = static_cast<std::size_t>(ordered[s]);
      sources[s] =
          entries_[at].contributions[from].data.subspan(skipped * elem_bytes, elems * elem_bytes);
    }
    const auto sum = std::span(block_).first(elems * elem_bytes);
    reduce_in_order({&sum, 1}, sources, options_.dtype, Reduction::sum);
    updater_.apply(parameters(at).subspan(skipped * elem_bytes, elems * elem_bytes), sum,
                   piece(at).local.begin + skipped, scale);
  }
}

void Store::note_staleness(std::size_t at, int worker, std::uint64_t version_before) {
  Contribution& from = entries_[at].contributions[static_cast<std::size_t>(worker)];
  from.staleness = version_before - from.given_version;
  StepStaleness& step = steps_[static_cast<std::size_t>(worker)];
  step.largest = std::max(step.largest, from.staleness);
  if (++step.pieces < entries_.size()) return;
  ++histogram_[std::min<std::uint64_t>(step.largest, kHistogramEntries - 1)];
  step = {};
}

bool Store::may_answer(std::size_t at, int worker) const {
  return entries_[at].initialised && entries_[at].policy.may_answer(worker);
}

Store::Given Store::give(std::size_t at, int worker) {
  Contribution& from = entries_[at].contributions[static_cast<std::size_t>(worker)];
  from.given_version = entries_[at].policy.version();
  return {from.given_version, from.staleness};
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

Status Store::resume(const checkpoint::Source& source) {
  for (std::size_t at = 0; at < entries_.size(); ++at) {
    entries_[at].policy.resume(source.version(piece(at).range));
    DIST_TRY(checkpoint::load_state(source, piece(at).range, &updater_, piece(at).local.begin));
  }
  return {};
}

std::optional<TimePoint> Store::waiting_since(std::size_t at) const {
  const Entry& entry = entries_[at];
  return entry.policy.longest_waiting() ? std::optional(entry.waiting_since) : std::nullopt;
}

}  // namespace dist::ps
