// SPDX-License-Identifier: Apache-2.0
#include "libdist/local_strategy.h"

#include <utility>
#include <vector>

#include "libdist/bucket/bucket.h"
#include "libdist/check.h"
#include "libdist/checkpoint/update_state.h"

namespace dist {
namespace {

class LocalStrategy final : public Strategy {
 public:
  LocalStrategy(World& world, Arena& arena, Updater updater)
      : trace_(world.trace()),
        ranks_(world.ranks()),
        arena_(arena),
        tracker_({Bucket{{0, arena.elems().value}, 0, arena.parameter_count()}}),
        updater_(std::move(updater)) {}

  std::string_view name() const override { return "none"; }
  int workers() const override { return 1; }
  int worker() const override { return 0; }

  Status begin() override {
    if (checkpoint_source_ == nullptr) return {};
    DIST_TRY(check_alone());
    DIST_TRY_BECAUSE(checkpoint_source_->read(whole(), 0, arena_.parameters(whole())), "resume");
    step_ = checkpoint_source_->step();
    return checkpoint::load_state(*checkpoint_source_, whole(), &updater_, 0);
  }

  std::uint64_t next_step() const override { return step_; }

  void ready(std::size_t index) override { tracker_.ready(index); }

  Status await(std::size_t) override {
    if (!updated_) update();
    return {};
  }

  Result<StepReport> finish_step() override {
    if (!updated_) update();
    tracker_.begin_step();
    updated_ = false;
    return report_;
  }

  Status join(const std::function<void()>&) override { return {}; }
  Result<bool> stand_by() override { return false; }

  Status end() override { return {}; }

  Result<Saving> save() override {
    DIST_ASSERT(checkpoint_sink_ != nullptr, "save() needs use_checkpoints()");
    DIST_TRY(check_alone());
    checkpoint::Snapshot snapshot(step_, 0, 1);
    checkpoint::add_range(&snapshot, whole(), step_, arena_.parameters(whole()), updater_, 0);
    checkpoint_sink_->accept(std::move(snapshot));
    return Saving{step_, 1};
  }

 private:
  Range whole() const { return {0, arena_.elems().value}; }

  Status check_alone() const {
    if (ranks_ == 1) return {};
    return Status::invalid_argument(
        "none: every rank trains parameters of its own, and a checkpoint holds one set; run one "
        "rank, or choose another strategy");
  }

  void update() {
    DIST_ASSERT(tracker_.next_full().has_value(),
                "the step ended before every parameter was ready");
    const auto parameters = arena_.parameters(whole());
    const auto begin = Clock::now();
    // The mean of one is itself.
    if (updater_.updates_parameters()) {
      std::vector<double> squares(updater_.square_count(), 0);
      updater_.add_squares(parameters, arena_.gradients(whole()), 0, squares);
      updater_.apply(parameters, arena_.gradients(whole()), 0, {.step = step_, .squares = squares});
    }
    const auto end = Clock::now();
    trace_.record(Activity::update, "update", begin, end, Bytes(parameters.size()));
    report_.step = step_++;
    report_.contributors = 1;
    report_.update = end - begin;
    updated_ = true;
  }

  Trace& trace_;
  const int ranks_;
  Arena& arena_;
  BucketTracker tracker_;
  Updater updater_;
  std::uint64_t step_ = 0;
  bool updated_ = false;  // this step
  StepReport report_;     // of this step, once updated
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_local_strategy(World& world, Arena& arena, Update update) {
  auto updater = Updater::create(update, layout_of(arena), arena.dtype(), arena.alias_window());
  DIST_TRY_BECAUSE(updater, "none");
  return std::unique_ptr<Strategy>(
      std::make_unique<LocalStrategy>(world, arena, *std::move(updater)));
}

}  // namespace dist
