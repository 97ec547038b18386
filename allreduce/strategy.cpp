// SPDX-License-Identifier: Apache-2.0
// The host's side of the ring.
#include "allreduce/strategy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/contributors.h"
#include "allreduce/exchange.h"
#include "allreduce/ring_strategy.h"
#include "libdist/check.h"
#include "libdist/checkpoint/update_state.h"
#include "libdist/host/hosts.h"

namespace dist::allreduce {
namespace {

// Whether arenas may be reached in place. An arena that replays many large replicas in one window
// holds nothing that could be shared; tcp within a host is used by those who want tcp.
bool shares_memory(const Options& options, const Transport& transport, const Arena& arena) {
  if (options.ranks == 1) return false;
  if (options.algorithm == "sweep" || options.algorithm == "hierarchical") return true;
  const bool several_a_host = options.local_ranks > 1 || options.one_host;
  return options.algorithm == "auto" && several_a_host && !options.shard_optimizer &&
         options.compress == "none" && arena.gradient_memory().shareable() &&
         (transport.name() != "tcp" || !options.one_host || options.ranks_per_host > 0);
}

// An arena of the host.
class HostSide final : public RingSide {
 public:
  HostSide(World& world, Arena& arena, Updater updater)
      : progress_(world.progress()),
        order_(world.operation_order()),
        trace_(world.trace()),
        log_(world.log()),
        options_(world.options()),
        arena_(arena),
        updater_(std::move(updater)) {}

  std::string_view name() const override { return "ring"; }
  const Update& update() const override { return updater_.update(); }
  Rank rank() const override { return options_.rank; }
  int ranks() const override { return options_.ranks; }

  // All ranks decide alike: by their options, which check_layouts() has compared, by what they
  // gather here, and together.
  Result<std::unique_ptr<Exchange>> choose_exchange(const std::vector<Bucket>& buckets) override {
    const ExchangeContext context{progress_, order_, trace_, options_, arena_, buckets, updater_};
    if (shares_memory(options_, progress_.transport(), arena_)) {
      const auto hosts = find_hosts(options_.rank, options_.ranks, options_.ranks_per_host,
                                    [this](auto words) { return sum_words(words, "hosts"); });
      DIST_TRY(hosts);
      auto made = make_exchange(context, *hosts);
      DIST_TRY(agree(&made));
      if (made.ok()) return made;
      if (options_.algorithm != "auto" || made.status().code() != ErrorCode::unavailable) {
        return made.status().because(fmt::format("ring: algorithm {}", options_.algorithm));
      }
      log_.info(fmt::format("ring: gradients go over {}: {}", progress_.transport().name(),
                            made.status().message()));
    }
    auto made = make_transport_exchange(context);
    DIST_TRY_BECAUSE(made, "ring");
    return made;
  }

  Status read_parameters(const checkpoint::Source& source) override {
    const Range whole{0, arena_.elems().value};
    return source.read(whole, 0, arena_.parameters(whole));
  }

  Status load_state(const checkpoint::Source& source, Range range) override {
    return checkpoint::load_state(source, range, &updater_, range.begin);
  }

  Status add_range(checkpoint::Snapshot* snapshot, Range range, std::uint64_t version) override {
    checkpoint::add_range(snapshot, range, version, arena_.parameters(range), updater_,
                          range.begin);
    return {};
  }

  Status contribute_nothing() override {
    allreduce::contribute_nothing(arena_);
    return {};
  }

 private:
  Result<std::unique_ptr<Exchange>> make_exchange(const ExchangeContext& context,
                                                  const Hosts& hosts) const {
    const bool automatic = options_.algorithm == "auto";
    if (hosts.one() && (automatic || options_.algorithm == "sweep")) {
      return make_host_exchange(context, hosts);
    }
    const bool several = !hosts.one() && hosts.even() && hosts.ranks_of.front().size() > 1;
    const bool allowed = !options_.deterministic && options_.share_parameters;
    if (several && (options_.algorithm == "hierarchical" || (automatic && allowed))) {
      return make_hierarchical_exchange(context, hosts);
    }
    return Status::unavailable(fmt::format(
        "{} ranks on {} host(s): sweep needs one host; hierarchical needs several with the same "
        "number of ranks each, at least 2, share-parameters, and not deterministic",
        options_.ranks, hosts.ranks_of.size()));
  }

  // One host's failure is everybody's.
  Status agree(Result<std::unique_ptr<Exchange>>* made) {
    std::array<std::uint64_t, 1> failures = {made->ok() ? 0u : 1u};
    DIST_TRY(sum_words(failures, "agreement on the exchange"));
    if (failures[0] != 0 && made->ok()) {
      *made = Status::unavailable("on another host memory cannot be shared");
    }
    return {};
  }

  Status sum_words(std::span<std::uint64_t> words, std::string_view what) {
    return sum_over_ranks(progress_, trace_, options_, words, fmt::format("ring: {}", what));
  }

  Progress& progress_;
  OperationOrder& order_;
  Trace& trace_;
  const Log& log_;
  const Options& options_;
  Arena& arena_;
  Updater updater_;
};

Status check_compression(const Options& options) {
  if (options.compress == "none") return {};
  if (options.compress == "top-k" || options.compress == "one-bit") {
    return Status::invalid_argument(fmt::format(
        "ring: compress {} is for parameter servers: sums of it are as long as what it compresses; "
        "choose f16, bf16 or int8, or strategy sync-ps or async-ps",
        options.compress));
  }
  if ((options.algorithm != "auto" && options.algorithm != "ring") || options.shard_optimizer) {
    return Status::invalid_argument(fmt::format(
        "ring: compress {} has an exchange of its own over the transport: not with algorithm {}{}; "
        "leave out what is not auto",
        options.compress, options.algorithm, options.shard_optimizer ? ", shard-optimizer" : ""));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Strategy>> make_strategy(World& world, Arena& arena, Update update) {
  const Options& options = world.options();
  DIST_ASSERT(arena.device() == nullptr, "make_device_strategy() is for arenas on a device");
  static constexpr std::array<std::string_view, 5> kAlgorithms = {"auto", "sweep", "hierarchical",
                                                                  "ring", "native"};
  if (std::find(kAlgorithms.begin(), kAlgorithms.end(), options.algorithm) == kAlgorithms.end()) {
    return Status::invalid_argument(fmt::format("ring: algorithm '{}' is unknown; valid: {}",
                                                options.algorithm, fmt::join(kAlgorithms, ", ")));
  }
  if (options.algorithm == "native" && options.deterministic) {
    return Status::invalid_argument(
        "ring: algorithm native leaves the order of the sum to MPI, which deterministic refuses; "
        "choose algorithm ring");
  }
  if (options.algorithm == "native" && !native_available(world.progress().transport())) {
    return Status::unavailable(fmt::format(
        "ring: algorithm native needs the transport mpi, this world uses {}; choose transport mpi "
        "(under mpirun, in a build with MPI) or algorithm ring",
        world.transport_name()));
  }
  const bool in_place = options.algorithm == "sweep" || options.algorithm == "hierarchical";
  if (in_place && !arena.gradient_memory().shareable()) {
    return Status::invalid_argument(fmt::format(
        "ring: algorithm {} reads the arenas of other ranks, and this arena's memory is an alias "
        "window (a replay); choose algorithm ring",
        options.algorithm));
  }
  if (options.algorithm == "hierarchical" && (options.deterministic || !options.share_parameters)) {
    return Status::invalid_argument(
        "ring: algorithm hierarchical has its own order of the sum, which deterministic refuses, "
        "and needs share-parameters; choose algorithm ring");
  }
  if (options.shard_optimizer && options.algorithm != "auto" && options.algorithm != "ring") {
    return Status::invalid_argument(fmt::format(
        "ring: shard-optimizer is for algorithm ring, not {}: sweep and hierarchical shard the "
        "state of the optimizer anyway, native cannot",
        options.algorithm));
  }
  DIST_TRY(check_compression(options));
  if (options.shard_optimizer && !updates_parameters(update.rule)) {
    return Status::invalid_argument(
        "ring: shard-optimizer leaves every rank the gradient of its chunk only, but the rule "
        "mean-gradient wants all of it; switch shard-optimizer off or choose an update rule");
  }
  auto updater = Updater::create(update, layout_of(arena), arena.dtype(), arena.alias_window());
  DIST_TRY_BECAUSE(updater, "ring");
  return make_ring_strategy(world, arena,
                            std::make_unique<HostSide>(world, arena, *std::move(updater)));
}

}  // namespace dist::allreduce
