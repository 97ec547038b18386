// SPDX-License-Identifier: Apache-2.0
// The device's side of the ring, and what stands in for the ring where only the host can do it.
#include "allreduce/device_strategy.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "allreduce/device_alone_exchange.h"
#include "allreduce/device_exchange.h"
#include "allreduce/device_path.h"
#include "allreduce/device_sweep_exchange.h"
#include "allreduce/ring_strategy.h"
#include "libdist/check.h"
#include "libdist/device_updater.h"
#include "libdist/host/hosts.h"
#include "libdist/memory/device_wait.h"

namespace dist::allreduce {
namespace {

class DeviceSide final : public RingSide {
 public:
  DeviceSide(std::string_view name, World& world, Arena& arena, DeviceUpdater updater)
      : name_(name),
        progress_(world.progress()),
        order_(world.operation_order()),
        trace_(world.trace()),
        options_(world.options()),
        device_(*arena.device()),
        arena_(arena),
        updater_(std::move(updater)) {}

  /// Before begin().
  void take(DevicePath path) { path_ = path; }

  std::string_view name() const override { return name_; }
  const Update& update() const override { return updater_.update(); }
  Rank rank() const override { return for_itself() ? 0 : options_.rank; }
  int ranks() const override { return for_itself() ? 1 : options_.ranks; }

  Result<std::unique_ptr<Exchange>> choose_exchange(const std::vector<Bucket>& buckets) override {
    const DeviceExchangeContext context{progress_, order_, trace_,  options_,
                                        device_,   arena_, buckets, updater_};
    if (for_itself() || path_ == DevicePath::alone) return make_device_alone_exchange(context);
    if (path_ == DevicePath::nccl) return make_over_nccl(context);
    DIST_ASSERT(path_ == DevicePath::sweep, "staged is no exchange of a device");
    const auto hosts = find_hosts(options_.rank, options_.ranks, options_.ranks_per_host,
                                  [this](auto words) { return sum_words(words, "hosts"); });
    DIST_TRY(hosts);
    return make_device_sweep_exchange(context, *hosts);
  }

  Status read_parameters(const checkpoint::Source& source) override {
    DIST_TRY(check_alone());
    const Range whole{0, arena_.elems().value};
    return put(source, whole, 0, arena_.parameters(whole));
  }

  Status load_state(const checkpoint::Source& source, Range range) override {
    for (std::size_t a = 0; a < updater_.state_arrays(); ++a) {
      DIST_TRY_BECAUSE(put(source, range, a + 1, updater_.state(a, range)), "resume");
    }
    return {};
  }

  Status add_range(checkpoint::Snapshot* snapshot, Range range, std::uint64_t version) override {
    DIST_TRY(check_alone());
    const std::size_t arrays = 1 + updater_.state_arrays();
    std::vector<std::vector<std::byte>> copies(arrays);
    for (std::size_t a = 0; a < arrays; ++a) {
      const auto from = a == 0 ? arena_.parameters(range) : updater_.state(a - 1, range);
      copies[a].resize(from.size());
      DIST_TRY(device_.copy(arena_.stream(), copies[a], from));
    }
    DIST_TRY(wait("copy for a checkpoint"));
    const std::vector<std::span<const std::byte>> spans(copies.begin(), copies.end());
    snapshot->add(range, version, spans);
    return {};
  }

  Status contribute_nothing() override {
    const Range whole{0, arena_.elems().value};
    return device_.fill(arena_.stream(), arena_.dtype(), arena_.gradients(whole), -0.0);
  }

 private:
  bool for_itself() const { return name_ == "none"; }

  Status check_alone() const {
    if (!for_itself() || options_.ranks == 1) return {};
    return Status::invalid_argument(
        "none: every rank trains parameters of its own, and a checkpoint holds one set; run one "
        "rank, or choose another strategy");
  }

  Result<std::unique_ptr<Exchange>> make_over_nccl(const DeviceExchangeContext& context) {
    auto group = make_nccl_group(progress_, trace_, options_, device_);
    DIST_TRY(group);
    DeviceExchangeOptions chosen;
    if (name_ == "sync-ps") {
      chosen.placement = DevicePlacement::owners;
    } else if (options_.shard_optimizer) {
      chosen.placement = DevicePlacement::sharded;
    } else {
      chosen.ring = options_.algorithm == "ring" || options_.deterministic;
    }
    return make_device_exchange(context, *std::move(group), chosen);
  }

  // From a checkpoint to the device, by way of memory that goes when the copy is over.
  Status put(const checkpoint::Source& source, Range range, std::size_t array,
             std::span<std::byte> to) {
    std::vector<std::byte> values(to.size());
    DIST_TRY(source.read(range, array, values));
    DIST_TRY(device_.copy(arena_.stream(), to, values));
    return wait("copy from a checkpoint");
  }

  Status wait(std::string_view what) {
    return wait_for_stream(device_, arena_.stream(), options_.timeout, what);
  }

  Status sum_words(std::span<std::uint64_t> words, std::string_view what) {
    return sum_over_ranks(progress_, trace_, options_, words, fmt::format("{}: {}", name_, what));
  }

  const std::string name_;
  Progress& progress_;
  OperationOrder& order_;
  Trace& trace_;
  const Options& options_;
  Device& device_;
  Arena& arena_;
  DeviceUpdater updater_;
  DevicePath path_ = DevicePath::alone;
};

// Decides in begin() which of two strategies it is.
class DeviceStrategy final : public Strategy {
 public:
  /// `ring` works by `side`, and is null where only the host will do; `staged` may have failed.
  DeviceStrategy(std::string_view name, World& world, DeviceSide* side,
                 std::unique_ptr<Strategy> ring, Result<std::unique_ptr<Strategy>> staged)
      : name_(name),
        progress_(world.progress()),
        trace_(world.trace()),
        log_(world.log()),
        options_(world.options()),
        side_(side),
        ring_(std::move(ring)),
        staged_(std::move(staged)) {}

  std::string_view name() const override { return name_; }
  int workers() const override { return chosen().workers(); }
  int worker() const override { return chosen().worker(); }
  std::uint64_t next_step() const override { return chosen().next_step(); }

  Status begin() override {
    const auto path = choose();
    DIST_TRY(path);
    if (*path != DevicePath::staged) {
      side_->take(*path);
      ring_->use_checkpoints(checkpoint_sink_, checkpoint_source_);
      Status begun = ring_->begin();
      if (begun.ok()) staged_ = Status::unavailable("not chosen");
      if (begun.ok() || begun.code() != ErrorCode::unavailable || demanded()) return begun;
      log_.info(fmt::format("{}: gradients go over the host: {}", name_, begun.message()));
    }
    ring_.reset();
    DIST_TRY(staged_);
    chosen().use_checkpoints(checkpoint_sink_, checkpoint_source_);
    return chosen().begin();
  }

  void ready(std::size_t index) override { chosen().ready(index); }
  Status await(std::size_t index) override { return chosen().await(index); }
  Result<StepReport> finish_step() override { return chosen().finish_step(); }
  Status join(const std::function<void()>& update) override { return chosen().join(update); }
  Result<bool> stand_by() override { return chosen().stand_by(); }
  Status end() override { return chosen().end(); }
  ServerReport server_report() const override { return chosen().server_report(); }
  Result<Saving> save() override { return chosen().save(); }

 private:
  Strategy& chosen() { return ring_ ? *ring_ : **staged_; }
  const Strategy& chosen() const { return ring_ ? *ring_ : **staged_; }

  bool demanded() const { return options_.transport == "nccl" || options_.algorithm == "sweep"; }

  Result<DevicePath> choose() {
    if (!ring_) return DevicePath::staged;
    if (options_.ranks == 1 && options_.transport != "nccl") return DevicePath::alone;
    const auto facts = gather_facts();
    DIST_TRY_BECAUSE(facts, name_);
    return choose_device_path(name_, options_, *facts);
  }

  // Every rank learns who lacks NCCL, or a GPU for each rank of its host.
  Result<DeviceFacts> gather_facts() {
    const auto sum_words = [this](std::span<std::uint64_t> words) {
      return sum_over_ranks(progress_, trace_, options_, words,
                            fmt::format("{}: GPUs of the ranks", name_));
    };
    const auto hosts =
        find_hosts(options_.rank, options_.ranks, options_.ranks_per_host, sum_words);
    DIST_TRY(hosts);
    const Status own = own_nccl();
    std::vector<std::uint64_t> lacking(static_cast<std::size_t>(options_.ranks), 0);
    lacking[static_cast<std::size_t>(options_.rank)] = own.ok() ? 0 : 1;
    DIST_TRY(sum_words(lacking));
    DeviceFacts facts{.one_host = hosts->one(), .no_nccl = own.message()};
    if (!own.ok()) return facts;
    const auto first = std::find(lacking.begin(), lacking.end(), 1u);
    facts.no_nccl = first == lacking.end()
                        ? ""
                        : fmt::format("rank {} lacks NCCL, or a GPU for each rank of its host",
                                      first - lacking.begin());
    return facts;
  }

  Status own_nccl() const {
    DIST_TRY(nccl_available());
    if (options_.local_ranks <= device_count()) return {};
    return Status::unavailable(fmt::format("{} ranks share the {} GPU(s) of this host",
                                           options_.local_ranks, device_count()));
  }

  const std::string name_;
  Progress& progress_;
  Trace& trace_;
  const Log& log_;
  const Options& options_;
  DeviceSide* const side_;
  std::unique_ptr<Strategy> ring_;
  Result<std::unique_ptr<Strategy>> staged_;
};

Result<std::unique_ptr<DeviceSide>> make_side(std::string_view name, World& world, Arena& arena,
                                              Update update) {
  auto updater = DeviceUpdater::create(*arena.device(), update, layout_of(arena), arena.dtype());
  DIST_TRY_BECAUSE(updater, name);
  return std::make_unique<DeviceSide>(name, world, arena, *std::move(updater));
}

}  // namespace

Result<std::unique_ptr<Strategy>> make_device_strategy(std::string_view strategy, World& world,
                                                       Arena& arena, Update update,
                                                       const MakeOnHost& on_host) {
  const Options& options = world.options();
  const bool updates = updates_parameters(update.rule);
  const bool demanded = options.transport == "nccl";
  const Status only_host = needs_host(strategy, options);
  if (demanded) DIST_TRY(only_host);
  Result<std::unique_ptr<Strategy>> staged = Status::unavailable("transport nccl");
  if (!demanded) staged = make_staged_strategy(world, arena, updates, on_host);
  // What the host refuses for reasons of its own (algorithm native without MPI) NCCL may do.
  if (!demanded && (!only_host.ok() || options.algorithm != "native")) DIST_TRY(staged);
  DeviceSide* side = nullptr;
  std::unique_ptr<Strategy> ring;
  if (only_host.ok()) {
    auto made = make_side(strategy, world, arena, update);
    DIST_TRY(made);
    side = made->get();
    ring = make_ring_strategy(world, arena, *std::move(made));
  }
  return std::unique_ptr<Strategy>(
      std::make_unique<DeviceStrategy>(strategy, world, side, std::move(ring), std::move(staged)));
}

Result<std::unique_ptr<Strategy>> make_device_local_strategy(World& world, Arena& arena,
                                                             Update update) {
  auto side = make_side("none", world, arena, update);
  DIST_TRY(side);
  return make_ring_strategy(world, arena, *std::move(side));
}

}  // namespace dist::allreduce
