// SPDX-License-Identifier: Apache-2.0
#include "libdist/libtorch/lanes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

namespace dist::libtorch {
namespace {

DType type_of(const Entry& entry) {
  return entry.tensor.scalar_type() == torch::kFloat64 ? DType::f64 : DType::f32;
}

StepReport sum(StepReport total, const StepReport& more) {
  total.bytes_sent += more.bytes_sent;
  total.communication_busy += more.communication_busy;
  total.communication_exposed += more.communication_exposed;
  total.communication_exposed_bound += more.communication_exposed_bound;
  total.update += more.update;
  total.memory_saved += more.memory_saved;
  total.compression_saved += more.compression_saved;
  total.compression += more.compression;
  return total;
}

}  // namespace

Result<std::unique_ptr<Lanes>> Lanes::open(World& world, Group& everyone,
                                           const AttachOptions& options,
                                           std::vector<Entry>& entries,
                                           const std::vector<std::size_t>& order) {
  std::unique_ptr<Lanes> lanes(new Lanes());
  lanes->sort(entries, order);
  DIST_TRY(lanes->compare(everyone));
  DIST_TRY(lanes->check(options, entries));
  for (Lane& lane : lanes->lanes_) {
    auto arena = lay_out(entries, lane.entry_in);
    DIST_TRY(arena);
    lane.arena = *std::move(arena);
    auto strategy = make_strategy(options.strategy, world, *lane.arena, options.update);
    DIST_TRY_BECAUSE(strategy, "libtorch");
    lane.strategy = *std::move(strategy);
  }
  if (options.checkpoints) DIST_TRY(lanes->open_checkpoints(everyone, options));
  for (Lane& lane : lanes->lanes_) DIST_TRY_BECAUSE(lane.strategy->begin(), "libtorch");
  lanes->begin_step();
  return lanes;
}

void Lanes::sort(const std::vector<Entry>& entries, const std::vector<std::size_t>& order) {
  std::array<std::uint64_t, kDTypes> bytes{};
  for (const std::size_t e : order) {
    const DType type = type_of(entries[e]);
    auto lane = std::find_if(lanes_.begin(), lanes_.end(),
                             [type](const Lane& other) { return other.type == type; });
    if (lane == lanes_.end()) {
      lanes_.emplace_back().type = type;
      lane = lanes_.end() - 1;
    }
    lane->entry_in.push_back(e);
    bytes[static_cast<std::size_t>(type)] += entries[e].tensor.nbytes();
  }
  const auto before = [&](const Lane& a, const Lane& b) {
    const auto of_a = bytes[static_cast<std::size_t>(a.type)];
    const auto of_b = bytes[static_cast<std::size_t>(b.type)];
    return of_a != of_b ? of_a > of_b : a.type < b.type;
  };
  std::sort(lanes_.begin(), lanes_.end(), before);
  places_.resize(entries.size());
  for (std::size_t l = 0; l < lanes_.size(); ++l) {
    const auto& entry_in = lanes_[l].entry_in;
    for (std::size_t s = 0; s < entry_in.size(); ++s) places_[entry_in[s]] = {l, s};
  }
}

// Otherwise they would wait for each other in different strategies.
Status Lanes::compare(Group& everyone) const {
  std::uint64_t types = 0;
  for (const Lane& lane : lanes_) types = types << 8 | (static_cast<std::uint64_t>(lane.type) + 1);
  std::array<std::uint64_t, 2> bounds = {types, ~types};
  DIST_TRY_BECAUSE(everyone.all_reduce(bounds, Reduction::max), "libtorch: meeting");
  if (bounds[0] == ~bounds[1]) return {};
  return Status::invalid_argument(
      "libtorch: the ranks' parameters have different element types, or different sizes of each; "
      "attach the same module on every rank");
}

Status Lanes::check(const AttachOptions& options, const std::vector<Entry>& entries) const {
  if (lanes_.size() == 1) return {};
  const auto refuse = [&](std::string_view why) {
    const Entry& first = entries[lanes_[1].entry_in.front()];
    return Status::invalid_argument(
        fmt::format("libtorch: parameter '{}' is {}, others are {}: {}, or convert the module with "
                    "to() before attach()",
                    first.name, name_of(lanes_[1].type), name_of(lanes_[0].type), why));
  };
  if (options.strategy != "ring" && options.strategy != "none") {
    return refuse(fmt::format("the servers of {} hold one type; choose ring", options.strategy));
  }
  if (options.update.clip_norm > 0) {
    return refuse("clip_norm takes the norm of gradients of one type; leave it out");
  }
  if (options.checkpoints && options.checkpoints->keep < 2) {
    return refuse("checkpoints of several types are complete one after the other; keep at least 2");
  }
  return {};
}

// Several types: a directory each, written side by side. After a crash one may be a checkpoint
// ahead; all begin with the newest step that they have in common.
Status Lanes::open_checkpoints(Group& everyone, const AttachOptions& options) {
  if (lanes_.size() > 1 && everyone.rank() == 0) {
    std::error_code ignored;  // opening tells
    std::filesystem::create_directory(options.checkpoints->directory, ignored);
  }
  auto step = std::numeric_limits<std::uint64_t>::max();
  for (Lane& lane : lanes_) {
    DIST_TRY(open_checkpoints(everyone, options, lane, {}));
    step = std::min(step, lane.checkpoints->first_step());
  }
  for (Lane& lane : lanes_) {
    if (lane.checkpoints->first_step() == step) continue;
    DIST_TRY(open_checkpoints(everyone, options, lane, step));
    if (lane.checkpoints->first_step() != step) {
      return Status::resource(fmt::format(
          "libtorch: {} has no whole checkpoint: the parameters of type {} lack step {}, which "
          "others begin with",
          options.checkpoints->directory, name_of(lane.type), step));
    }
  }
  for (Lane& lane : lanes_) lane.checkpoints->attach(*lane.strategy);
  return {};
}

Status Lanes::open_checkpoints(Group& everyone, const AttachOptions& options, Lane& lane,
                               std::optional<std::uint64_t> newest_step) {
  CheckpointOptions chosen = *options.checkpoints;
  if (lanes_.size() > 1) chosen.directory += fmt::format("/{}", name_of(lane.type));
  chosen.newest_step = newest_step;
  auto opened =
      Checkpoints::open(everyone, *lane.arena, name_of(options.update.rule), std::move(chosen));
  DIST_TRY_BECAUSE(opened, "libtorch");
  lane.checkpoints = *std::move(opened);
  return {};
}

std::vector<std::size_t> Lanes::order() const {
  std::vector<std::size_t> all;
  for (const Lane& lane : lanes_) {
    all.insert(all.end(), lane.entry_in.begin(), lane.entry_in.end());
  }
  return all;
}

bool Lanes::keeps(const std::vector<std::size_t>& order) const {
  std::vector<std::size_t> next(lanes_.size(), 0);
  return std::all_of(order.begin(), order.end(), [&](std::size_t entry) {
    return places_[entry].slot == next[places_[entry].lane]++;
  });
}

void Lanes::begin_step() {
  current_ = 0;
  ready_.assign(places_.size(), false);
  for (Lane& lane : lanes_) lane.waiting = lane.entry_in.size();
}

void Lanes::ready(std::size_t entry) {
  ready_[entry] = true;
  const auto [lane, slot] = places_[entry];
  --lanes_[lane].waiting;
  if (lane != current_) return;
  lanes_[lane].strategy->ready(slot);
  while (lanes_[current_].waiting == 0 && current_ + 1 < lanes_.size()) start_ready(++current_);
}

void Lanes::start_ready(std::size_t lane) {
  const auto& entry_in = lanes_[lane].entry_in;
  for (std::size_t s = 0; s < entry_in.size(); ++s) {
    if (ready_[entry_in[s]]) lanes_[lane].strategy->ready(s);
  }
}

Result<StepReport> Lanes::finish_step() {
  for (const std::size_t entry : order()) {
    if (!ready_[entry]) ready(entry);
  }
  begin_step();
  auto report = lanes_[0].strategy->finish_step();
  DIST_TRY_BECAUSE(report, "libtorch");
  for (std::size_t l = 1; l < lanes_.size(); ++l) {
    const auto more = lanes_[l].strategy->finish_step();
    DIST_TRY_BECAUSE(more, "libtorch");
    report = sum(*report, *more);
  }
  return report;
}

void Lanes::zero_gradients() {
  for (const Lane& lane : lanes_) {
    const auto gradients = lane.arena->gradients({0, lane.arena->elems().value});
    std::fill(gradients.begin(), gradients.end(), std::byte{0});
  }
}

// Side by side: the ranks that train go through the lanes in each step.
Status Lanes::join(const std::function<void()>& update) {
  if (lanes_.size() == 1) return lanes_[0].strategy->join(update).because("libtorch");
  for (;;) {
    bool others = false;
    for (Lane& lane : lanes_) {
      const auto trained = lane.strategy->stand_by();
      DIST_TRY_BECAUSE(trained, "libtorch");
      others = *trained;
    }
    if (!others) return {};
    if (update) update();
  }
}

Status Lanes::end() {
  for (Lane& lane : lanes_) DIST_TRY_BECAUSE(lane.strategy->end(), "libtorch");
  return {};
}

Status Lanes::save(std::vector<CheckpointFile> files) {
  Status outcome;
  for (Lane& lane : lanes_) {
    const Status saved = lane.checkpoints->save(*lane.strategy, {}, std::exchange(files, {}));
    if (outcome.ok()) outcome = saved;
  }
  return outcome.because("libtorch");
}

Status Lanes::wait_for_checkpoints() {
  Status outcome;
  for (Lane& lane : lanes_) {
    if (lane.checkpoints == nullptr) continue;
    const Status written = lane.checkpoints->wait();
    if (outcome.ok()) outcome = written;
  }
  return outcome;
}

}  // namespace dist::libtorch
