// SPDX-License-Identifier: Apache-2.0
// Twin of host_exchange.cpp. At the end of the backward pass every rank sums its chunk of each
// bucket straight out of all gradient arenas and updates that chunk of its own parameters; then
// each copies the chunks of the others. Ranks wait for each other in words of the host, each after
// its own stream has come so far: no mark of a device crosses a process.
//
// When the ranks meet first, every stream is past its backward pass and past its copies of the step
// before, so that parameters may change.
#include "allreduce/device_sweep_exchange.h"

#include <utility>
#include <vector>

#include "allreduce/device_peers.h"
#include "libdist/memory/device_wait.h"

namespace dist::allreduce {
namespace {

class DeviceSweep final : public Exchange {
 public:
  DeviceSweep(const DeviceExchangeContext& context, std::unique_ptr<DevicePeers> peers,
              DeviceMemory numbers)
      : context_(context), peers_(std::move(peers)), numbers_(std::move(numbers)) {}

  // Nothing may be under way in memory that goes now.
  ~DeviceSweep() override { static_cast<void>(wait_for_own_stream("ring: end")); }

  std::string_view algorithm() const override { return "device sweep"; }

  Status begin() override {
    DIST_TRY(wait_for_own_stream("ring: initial parameters"));
    DIST_TRY(group().meet_again("ring: parameters of the first rank"));
    if (peers_->member() != 0) DIST_TRY(take(0, whole()));
    DIST_TRY(wait_for_own_stream("ring: begin"));
    return group().meet_again("ring: begin");
  }

  // Everything happens at the end of the backward pass.
  void start(std::size_t) override {}

  Status await(std::size_t, StepReport* report) override {
    if (updated_) return {};
    updated_ = true;
    return sweep(report);
  }

  Status finish(StepReport* report) override {
    DIST_TRY(await(0, report));
    updated_ = false;
    return {};
  }

  void join() override { group().set_contributes(false); }

  // Others may still copy out of this rank's parameters; and who frees memory wants nobody to hold
  // it any more.
  Status end() override {
    DIST_TRY(wait_for_own_stream("ring: end"));
    DIST_TRY(group().meet_again("ring: end"));
    peers_->let_go();
    return group().meet_again("ring: end");
  }

  Range updated(Range bucket) const override { return peers_->own_chunk(bucket); }
  Range saved(Range bucket) const override { return peers_->own_chunk(bucket); }

 private:
  Status sweep(StepReport* report) {
    DIST_TRY(wait_for_own_stream("ring: backward pass"));
    const auto began = Clock::now();
    DIST_TRY(meet("ring: wait for gradients", report));
    report->contributors = group().contributors();
    const auto summing = Clock::now();
    if (report->contributors > 0) {
      DIST_TRY(updates() ? update(*report) : sum_for_program(*report));
      DIST_TRY(wait_for_own_stream("ring: sweep"));
    }
    const auto summed = Clock::now();
    context_.trace.record(updates() ? Activity::update : Activity::reduce, algorithm(), summing,
                          summed, bytes_of(whole()));
    DIST_TRY(meet("ring: wait for the others' chunks", report));
    if (report->contributors > 0) DIST_TRY(updates() ? take_chunks_of_others() : divide(*report));
    (updates() ? report->update : report->communication_exposed) += summed - summing;
    report->communication_busy += Clock::now() - began;
    report->bytes_sent += read_by_others();
    return {};
  }

  Status update(const StepReport& report) {
    DeviceUpdater& updater = context_.updater;
    DIST_TRY(updater.begin_step(stream(), {1.0 / report.contributors, report.step}));
    if (updater.needs_norms()) DIST_TRY(sum_squares());
    DIST_TRY(updater.settle(stream()));
    for (const Bucket& bucket : context_.buckets) {
      const Range chunk = peers_->own_chunk(bucket.range);
      if (updater.needs_norms()) {
        sources_.assign(1, context_.arena.gradients(chunk));
      } else {
        peers_->gradients(chunk, &sources_);
      }
      DIST_TRY(
          updater.apply_sum(stream(), context_.arena.parameters(chunk), sources_, chunk.begin));
    }
    return {};
  }

  // Sums stay in the own gradients, of which nobody else reads these chunks; their squares are
  // added up over the members by the host.
  Status sum_squares() {
    DeviceUpdater& updater = context_.updater;
    for (const Bucket& bucket : context_.buckets) {
      const Range chunk = peers_->own_chunk(bucket.range);
      outs_.assign(1, context_.arena.gradients(chunk));
      DIST_TRY(sum(chunk, Reduction::sum));
      DIST_TRY(updater.add_squares(stream(), context_.arena.parameters(chunk), outs_.front(),
                                   chunk.begin));
    }
    const auto on_device = std::as_writable_bytes(updater.squares());
    DIST_TRY(context_.device.copy(stream(), numbers_.bytes(), on_device));
    DIST_TRY(wait_for_own_stream("ring: norms"));
    const std::span<double> numbers(reinterpret_cast<double*>(numbers_.bytes().data()),
                                    updater.squares().size());
    DIST_TRY(peers_->sum_squares(numbers));
    return context_.device.copy(stream(), on_device, numbers_.bytes());
  }

  Status sum_for_program(const StepReport& report) {
    for (const Bucket& bucket : context_.buckets) {
      const Range chunk = peers_->own_chunk(bucket.range);
      peers_->gradients(chunk, &outs_);
      DIST_TRY(sum(chunk, all_contribute(report) ? Reduction::mean : Reduction::sum));
    }
    return {};
  }

  Status sum(Range chunk, Reduction reduction) {
    peers_->gradients(chunk, &sources_);
    return context_.device.reduce(stream(), outs_, sources_, context_.arena.dtype(), reduction);
  }

  // What sum_for_program() left as a sum.
  Status divide(const StepReport& report) {
    if (all_contribute(report)) return {};
    return context_.device.divide(stream(), context_.arena.gradients(whole()),
                                  static_cast<std::uint64_t>(report.contributors),
                                  context_.arena.dtype());
  }

  Status take_chunks_of_others() {
    for (const Bucket& bucket : context_.buckets) {
      for (int m = 0; m < peers_->members(); ++m) {
        if (m != peers_->member()) DIST_TRY(take(m, peers_->chunk(bucket.range, m)));
      }
    }
    return {};
  }

  Status take(int member, Range range) {
    if (range.empty()) return {};
    return context_.device.copy(stream(), context_.arena.parameters(range),
                                peers_->parameters(member, range));
  }

  Status wait_for_own_stream(std::string_view what) {
    return wait_for_stream(context_.device, stream(), context_.options.timeout, what);
  }

  Status meet(std::string_view what, StepReport* report) {
    const auto began = Clock::now();
    Status met = group().meet_again(what);
    const auto ended = Clock::now();
    report->communication_exposed += ended - began;
    context_.trace.record(Activity::wait, what, began, ended);
    return met;
  }

  // What a transport would have carried away from this rank: the others read their chunks of its
  // gradients, and of its parameters its own chunk; with the program's update it stores its sums.
  Bytes read_by_others() const {
    const auto others = static_cast<std::uint64_t>(peers_->members() - 1);
    Bytes bytes;
    for (const Bucket& bucket : context_.buckets) {
      const Range chunk = peers_->own_chunk(bucket.range);
      bytes += bytes_of(bucket.range) - bytes_of(chunk) + bytes_of(chunk) * others;
    }
    return bytes;
  }

  HostGroup& group() const { return peers_->group(); }
  Stream stream() const { return context_.arena.stream(); }
  bool updates() const { return context_.updater.updates_parameters(); }
  bool all_contribute(const StepReport& report) const {
    return report.contributors == peers_->members();
  }
  Range whole() const { return {0, context_.arena.elems().value}; }
  Bytes bytes_of(Range range) const {
    return dist::bytes_of(Elems(range.elems()), context_.arena.dtype());
  }

  const DeviceExchangeContext context_;
  std::unique_ptr<DevicePeers> peers_;
  DeviceMemory numbers_;  // pinned: the updater's squares on their way through the host
  std::vector<std::span<const std::byte>> sources_;
  std::vector<std::span<std::byte>> outs_;
  bool updated_ = false;  // this step
};

}  // namespace

Result<std::unique_ptr<Exchange>> make_device_sweep_exchange(const DeviceExchangeContext& context,
                                                             const Hosts& hosts) {
  auto peers = DevicePeers::meet(context, hosts.ranks_of.front());
  DIST_TRY(peers);
  DeviceMemory numbers;
  if (const auto squares = context.updater.squares(); !squares.empty()) {
    auto made = context.device.allocate(Bytes(squares.size_bytes()), MemoryKind::pinned);
    DIST_TRY_BECAUSE(made, "norms");
    numbers = *std::move(made);
  }
  return std::unique_ptr<Exchange>(
      std::make_unique<DeviceSweep>(context, *std::move(peers), std::move(numbers)));
}

}  // namespace dist::allreduce
