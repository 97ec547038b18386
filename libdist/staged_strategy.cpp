// SPDX-License-Identifier: Apache-2.0
// Two streams beside the program's: one brings gradients to the host, one takes parameters back.
// No thread of its own: what has arrived is handed on when the program calls next.
#include "libdist/staged_strategy.h"

#include <fmt/format.h>

#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "libdist/check.h"
#include "libdist/memory/device.h"
#include "libdist/memory/device_wait.h"

namespace dist {
namespace {

class StagedStrategy final : public Strategy {
 public:
  struct Streams {
    Stream to_host;
    Stream to_device;
  };

  StagedStrategy(World& world, Arena& arena, bool updates, Streams streams,
                 std::unique_ptr<Arena> mirror, std::unique_ptr<Strategy> inner)
      : device_(*arena.device()),
        trace_(world.trace()),
        log_(world.log()),
        timeout_(world.options().timeout),
        arena_(arena),
        updates_(updates),
        streams_(streams),
        mirror_(std::move(mirror)),
        inner_(std::move(inner)),
        returned_(arena.parameter_count(), false) {}

  // Nothing may be on its way into memory that goes now.
  ~StagedStrategy() override {
    static_cast<void>(wait_for(streams_.to_host));
    static_cast<void>(wait_for(streams_.to_device));
    for (const Copy& copy : on_their_way_) device_.release_event(copy.arrived);
  }

  std::string_view name() const override { return inner_->name(); }
  int workers() const override { return inner_->workers(); }
  int worker() const override { return inner_->worker(); }
  std::uint64_t next_step() const override { return inner_->next_step(); }

  Status begin() override {
    inner_->use_checkpoints(checkpoint_sink_, checkpoint_source_);
    DIST_TRY(fetch_parameters());
    DIST_TRY(inner_->begin());
    pin();
    return give_back(whole(), Memory::parameters).because("staged: begin");
  }

  void ready(std::size_t index) override {
    if (failure_.ok()) failure_ = start_copy(index);
    if (failure_.ok()) failure_ = hand_on();
  }

  Status await(std::size_t index) override {
    DIST_TRY(end_backward());
    DIST_TRY(inner_->await(index));
    if (returned_[index]) return {};
    returned_[index] = true;
    return give_back(arena_.range(index), changed());
  }

  Result<StepReport> finish_step() override {
    DIST_TRY(end_backward());
    auto report = inner_->finish_step();
    DIST_TRY(report);
    DIST_TRY(give_back_the_rest());
    algorithm_ = fmt::format("staged{}{}", report->algorithm.empty() ? "" : " ", report->algorithm);
    report->algorithm = algorithm_;
    report->communication_exposed += std::exchange(tail_, {});
    backward_ended_ = false;
    return report;
  }

  Status join(const std::function<void()>& update) override {
    DIST_TRY_BECAUSE(wait_for(streams_.to_device), "staged: join");
    Status moved;
    const auto after_step = [&] {
      if (moved.ok()) moved = give_back_all();
      // The next step writes to the mirror at once.
      if (moved.ok()) moved = wait_for(streams_.to_device);
      update();
    };
    DIST_TRY(inner_->join(update ? after_step : update));
    DIST_TRY_BECAUSE(moved, "staged: join");
    return updates_ ? give_back_all() : Status();
  }

  Result<bool> stand_by() override {
    DIST_TRY_BECAUSE(wait_for(streams_.to_device), "staged: stand_by");
    auto others = inner_->stand_by();
    DIST_TRY(others);
    if (*others || updates_) DIST_TRY_BECAUSE(give_back_all(), "staged: stand_by");
    return others;
  }

  // The mirror's memory may move then.
  Status end() override {
    DIST_TRY_BECAUSE(wait_for(streams_.to_device), "staged: end");
    pinned_.clear();
    return inner_->end();
  }

  ServerReport server_report() const override { return inner_->server_report(); }

  // Of parameters that the program updates the mirror has only what they were at begin().
  Result<Saving> save() override {
    if (!updates_) DIST_TRY(fetch_parameters());
    return inner_->save();
  }

 private:
  enum class Memory { parameters, gradients };

  // One parameter's gradient on its way to the host.
  struct Copy {
    std::size_t parameter;
    Event arrived;
  };

  Range whole() const { return {0, arena_.elems().value}; }
  Memory changed() const { return updates_ ? Memory::parameters : Memory::gradients; }

  static std::span<std::byte> bytes(const Arena& arena, Memory memory, Range range) {
    return memory == Memory::parameters ? arena.parameters(range) : arena.gradients(range);
  }

  // What is enqueued on `second` from now on comes after all that is on `first`.
  Status order(Stream first, Stream second) {
    const auto mark = device_.record(first);
    DIST_TRY(mark);
    Status waits = device_.wait(second, *mark);
    device_.release_event(*mark);
    return waits;
  }

  Status wait_for(Stream stream) {
    return wait_for_stream(device_, stream, timeout_, "copies to and from the device");
  }

  Status fetch_parameters() {
    const auto fetch = [&]() -> Status {
      DIST_TRY(order(arena_.stream(), streams_.to_host));
      DIST_TRY(
          device_.copy(streams_.to_host, mirror_->parameters(whole()), arena_.parameters(whole())));
      return wait_for(streams_.to_host);
    };
    return fetch().because("staged: copy of the parameters");
  }

  Status start_copy(std::size_t index) {
    const auto start = [&]() -> Status {
      DIST_TRY(order(arena_.stream(), streams_.to_host));
      const Range range = arena_.range(index);
      DIST_TRY(device_.copy(streams_.to_host, mirror_->gradients(range), arena_.gradients(range)));
      const auto arrived = device_.record(streams_.to_host);
      DIST_TRY(arrived);
      on_their_way_.push_back({index, *arrived});
      return {};
    };
    return start().because(
        fmt::format("staged: copy of the gradient of '{}'", arena_.parameter(index).name));
  }

  // What has arrived, in the order of ready(): so it was copied.
  Status hand_on() {
    while (!on_their_way_.empty()) {
      const Copy& first = on_their_way_.front();
      const auto passed = device_.passed(first.arrived);
      DIST_TRY_BECAUSE(
          passed, fmt::format("staged: gradient of '{}'", arena_.parameter(first.parameter).name));
      if (!*passed) return {};
      device_.release_event(first.arrived);
      inner_->ready(first.parameter);
      on_their_way_.pop_front();
    }
    return {};
  }

  // The first await() or finish_step() of a step: waits for all gradients. What comes after the
  // last of the device's own work counts as exposed.
  Status end_backward() {
    DIST_TRY(failure_);
    if (std::exchange(backward_ended_, true)) return {};
    failure_ = wait_for_gradients();
    return failure_;
  }

  Status wait_for_gradients() {
    DIST_TRY(order(arena_.stream(), streams_.to_device));
    const auto computed = device_.record(arena_.stream());
    DIST_TRY(computed);
    const auto began = Clock::now();
    TimePoint computed_at = began;
    bool computing = true;
    Status outcome = hand_on();
    while (outcome.ok() && !on_their_way_.empty()) {
      if (computing) {
        const auto passed = device_.passed(*computed);
        outcome = passed.status();
        computing = passed.ok() && !*passed;
        computed_at = Clock::now();
      }
      if (outcome.ok() && Clock::now() - began > timeout_) outcome = late();
      std::this_thread::sleep_for(kLookAgain);
      if (outcome.ok()) outcome = hand_on();
    }
    device_.release_event(*computed);
    const auto end = Clock::now();
    if (computed_at != began) tail_ = end - computed_at;
    trace_.record(Activity::wait, "wait for gradients of the device", began, end);
    return outcome;
  }

  Status late() const {
    return Status::timed_out(
        fmt::format("staged: the gradient of '{}' did not leave {} within {} s",
                    arena_.parameter(on_their_way_.front().parameter).name, device_.name(),
                    std::chrono::duration<double>(timeout_).count()));
  }

  // The program's stream goes on when it is there.
  Status give_back(Range range, Memory memory) {
    DIST_TRY(device_.copy(streams_.to_device, bytes(arena_, memory, range),
                          bytes(*mirror_, memory, range)));
    return order(streams_.to_device, arena_.stream());
  }

  // After what the program still does with the values of the step before.
  Status give_back_all() {
    DIST_TRY(order(arena_.stream(), streams_.to_device));
    return give_back(whole(), changed());
  }

  // Neighbours in one copy.
  Status give_back_the_rest() {
    for (std::size_t p = 0; p < returned_.size(); ++p) {
      if (returned_[p]) continue;
      Range rest = arena_.range(p);
      while (p + 1 < returned_.size() && !returned_[p + 1]) rest.end = arena_.range(++p).end;
      DIST_TRY_BECAUSE(give_back(rest, changed()), "staged");
    }
    returned_.assign(returned_.size(), false);
    return {};
  }

  // Now that the mirror stays where it is. Without, copies only take longer.
  void pin() {
    for (const Memory memory : {Memory::parameters, Memory::gradients}) {
      auto pinned = device_.pin(bytes(*mirror_, memory, whole()));
      if (pinned.ok()) {
        pinned_.push_back(*std::move(pinned));
      } else {
        log_.info(fmt::format("staged: copies go through memory that is not page-locked: {}",
                              pinned.status().message()));
      }
    }
  }

  Device& device_;
  Trace& trace_;
  const Log& log_;
  const Duration timeout_;
  Arena& arena_;
  const bool updates_;
  const Streams streams_;
  std::unique_ptr<Arena> mirror_;
  std::unique_ptr<Strategy> inner_;
  std::vector<DeviceMemory> pinned_;  // of the mirror, from begin() to end(); before it goes
  std::deque<Copy> on_their_way_;
  std::vector<bool> returned_;   // this step, by parameter
  bool backward_ended_ = false;  // this step
  Duration tail_{0};             // this step
  Status failure_;
  std::string algorithm_;  // of the last report
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_staged_strategy(World& world, Arena& arena, bool updates,
                                                       const MakeOnHost& make) {
  DIST_ASSERT(arena.device() != nullptr, "a staged strategy is for an arena on a device");
  std::vector<Parameter> parameters;
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    parameters.push_back(arena.parameter(p));
  }
  auto mirror = Arena::create(std::move(parameters));
  DIST_TRY_BECAUSE(mirror, "staged: the host's copy");
  auto moved = std::make_unique<Arena>(*std::move(mirror));
  auto inner = make(*moved);
  DIST_TRY(inner);
  StagedStrategy::Streams streams;
  for (Stream* const stream : {&streams.to_host, &streams.to_device}) {
    const auto made = arena.device()->make_stream(StreamPriority::high);
    DIST_TRY_BECAUSE(made, "staged");
    *stream = *made;
  }
  return std::unique_ptr<Strategy>(std::make_unique<StagedStrategy>(
      world, arena, updates, streams, std::move(moved), *std::move(inner)));
}

}  // namespace dist
