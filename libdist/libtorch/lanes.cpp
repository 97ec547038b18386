// SPDX-License-Identifier: Apache-2.0
#include "libdist/libtorch/lanes.h"

#include <c10/core/DeviceGuard.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "libdist/hash.h"

namespace dist::libtorch {
namespace {

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
                                           const AttachOptions& options, Accelerators& accelerators,
                                           std::vector<Entry>& entries,
                                           const std::vector<std::size_t>& order) {
  std::unique_ptr<Lanes> lanes(new Lanes());
  lanes->sort(entries, order);
  const c10::OptionalDeviceGuard guard(lanes->gpu());
  DIST_TRY(lanes->compare(everyone));
  DIST_TRY(lanes->check(options, entries));
  for (Lane& lane : lanes->lanes_) {
    const auto place = accelerators.of(lane.place);
    DIST_TRY_BECAUSE(place, fmt::format("libtorch: parameter '{}' is on {}",
                                        entries[lane.entry_in.front()].name, lane.place.str()));
    auto arena = lay_out(entries, lane.entry_in, *place);
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

// Those of equal size stay in the order of their first entries, which is the same on all ranks.
void Lanes::sort(const std::vector<Entry>& entries, const std::vector<std::size_t>& order) {
  for (const std::size_t e : order) {
    const DType type = type_of(entries[e]);
    const torch::Device place = entries[e].tensor.device();
    auto lane = std::find_if(lanes_.begin(), lanes_.end(), [&](const Lane& other) {
      return other.type == type && other.place == place;
    });
    if (lane == lanes_.end()) {
      lane = lanes_.emplace(lanes_.end());
      lane->type = type;
      lane->place = place;
    }
    lane->entry_in.push_back(e);
    lane->bytes += entries[e].tensor.nbytes();
  }
  std::stable_sort(lanes_.begin(), lanes_.end(),
                   [](const Lane& a, const Lane& b) { return a.bytes > b.bytes; });
  places_.resize(entries.size());
  for (std::size_t l = 0; l < lanes_.size(); ++l) {
    const auto& entry_in = lanes_[l].entry_in;
    for (std::size_t s = 0; s < entry_in.size(); ++s) places_[entry_in[s]] = {l, s};
  }
}

// Otherwise they would wait for each other in different strategies. Numbers of devices may differ.
Status Lanes::compare(Group& everyone) const {
  LayoutHash lanes;
  for (const Lane& lane : lanes_) {
    lanes.text(name_of(lane.type)).text(torch::DeviceTypeName(lane.place.type()));
  }
  std::array<std::uint64_t, 2> bounds = {lanes.value(), ~lanes.value()};
  DIST_TRY_BECAUSE(everyone.all_reduce(bounds, Reduction::max), "libtorch: meeting");
  if (bounds[0] == ~bounds[1]) return {};
  return Status::invalid_argument(
      "libtorch: the ranks' parameters have different element types or kinds of devices, or "
      "different sizes of each; attach the same module on every rank");
}

Status Lanes::check(const AttachOptions& options, const std::vector<Entry>& entries) const {
  if (lanes_.size() == 1) return {};
  const auto describe = [](const Lane& lane) {
    return fmt::format("{} on {}", name_of(lane.type), lane.place.str());
  };
  const auto refuse = [&](std::string_view why) {
    const Entry& first = entries[lanes_[1].entry_in.front()];
    return Status::invalid_argument(
        fmt::format("libtorch: parameter '{}' is {}, others are {}: {}, or convert the module with "
                    "to() before attach()",
                    first.name, describe(lanes_[1]), describe(lanes_[0]), why));
  };
  if (options.strategy != "ring" && options.strategy != "none") {
    return refuse(fmt::format("the servers of {} hold one type of one device; choose ring",
                              options.strategy));
  }
  if (options.update.clip_norm > 0) {
    return refuse("clip_norm takes the norm of gradients of one type and device; leave it out");
  }
  if (options.checkpoints && options.checkpoints->keep < 2) {
    return refuse("their checkpoints are complete one after the other; keep at least 2");
  }
  const bool one_place = std::all_of(lanes_.begin(), lanes_.end(), [this](const Lane& lane) {
    return lane.place == lanes_[0].place;
  });
  if (options.checkpoints && !one_place && !updates_parameters(options.update.rule)) {
    return refuse("the optimizer in a checkpoint is of one device; let the library update");
  }
  return {};
}

// Several lanes: a directory each, written side by side. After a crash one may be a checkpoint
// ahead; all begin with the newest step that they have in common.
Status Lanes::open_checkpoints(Group& everyone, const AttachOptions& options) {
  if (lanes_.size() > 1 && everyone.rank() == 0) {
    std::error_code ignored;  // opening tells
    std::filesystem::create_directory(options.checkpoints->directory, ignored);
  }
  auto step = std::numeric_limits<std::uint64_t>::max();
  for (std::size_t l = 0; l < lanes_.size(); ++l) {
    DIST_TRY(open_checkpoints(everyone, options, l, {}));
    step = std::min(step, lanes_[l].checkpoints->first_step());
  }
  for (std::size_t l = 0; l < lanes_.size(); ++l) {
    if (lanes_[l].checkpoints->first_step() == step) continue;
    DIST_TRY(open_checkpoints(everyone, options, l, step));
    if (lanes_[l].checkpoints->first_step() != step) {
      return Status::resource(fmt::format(
          "libtorch: {} has no whole checkpoint: that of {} lacks step {}, which others begin with",
          options.checkpoints->directory, directory(l), step));
    }
  }
  for (Lane& lane : lanes_) lane.checkpoints->attach(*lane.strategy);
  return {};
}

// Of a lane among several: "f32", and "f32-1" for the second of that type, since the numbers of the
// devices are a rank's own.
std::string Lanes::directory(std::size_t lane) const {
  const auto type = lanes_[lane].type;
  const auto end = lanes_.begin() + static_cast<std::ptrdiff_t>(lane);
  const auto before =
      std::count_if(lanes_.begin(), end, [type](const Lane& other) { return other.type == type; });
  return before == 0 ? std::string(name_of(type)) : fmt::format("{}-{}", name_of(type), before);
}

Status Lanes::open_checkpoints(Group& everyone, const AttachOptions& options, std::size_t lane,
                               std::optional<std::uint64_t> newest_step) {
  CheckpointOptions chosen = *options.checkpoints;
  if (lanes_.size() > 1) chosen.directory += fmt::format("/{}", directory(lane));
  chosen.newest_step = newest_step;
  auto opened = Checkpoints::open(everyone, *lanes_[lane].arena, name_of(options.update.rule),
                                  std::move(chosen));
  DIST_TRY_BECAUSE(opened, "libtorch");
  lanes_[lane].checkpoints = *std::move(opened);
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

// For guards: the library changes the thread's current GPU, which is the program's.
c10::optional<torch::Device> Lanes::gpu() const {
  for (const Lane& lane : lanes_) {
    if (!lane.place.is_cpu()) return lane.place;
  }
  return {};
}

void Lanes::begin_step() {
  current_ = 0;
  ready_.assign(places_.size(), false);
  for (Lane& lane : lanes_) lane.waiting = lane.entry_in.size();
}

void Lanes::ready(std::size_t entry) {
  const c10::OptionalDeviceGuard guard(gpu());
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
  const c10::OptionalDeviceGuard guard(gpu());
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

Status Lanes::zero_gradients() {
  const c10::OptionalDeviceGuard guard(gpu());
  for (const Lane& lane : lanes_) {
    const Arena& arena = *lane.arena;
    const auto gradients = arena.gradients({0, arena.elems().value});
    if (arena.device() == nullptr) {
      std::fill(gradients.begin(), gradients.end(), std::byte{0});
    } else {
      DIST_TRY_BECAUSE(arena.device()->fill(arena.stream(), arena.dtype(), gradients, 0),
                       "libtorch: zeroing gradients");
    }
  }
  return {};
}

// Side by side: the ranks that train go through the lanes in each step.
Status Lanes::join(const std::function<void()>& update) {
  const c10::OptionalDeviceGuard guard(gpu());
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
  const c10::OptionalDeviceGuard guard(gpu());
  for (Lane& lane : lanes_) DIST_TRY_BECAUSE(lane.strategy->end(), "libtorch");
  return {};
}

Status Lanes::save(std::vector<CheckpointFile> files) {
  const c10::OptionalDeviceGuard guard(gpu());
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
