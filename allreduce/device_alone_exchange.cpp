// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_alone_exchange.h"

#include <span>

#include "libdist/memory/device_wait.h"

namespace dist::allreduce {
namespace {

class DeviceAlone final : public Exchange {
 public:
  explicit DeviceAlone(const DeviceExchangeContext& context) : context_(context) {}

  // Nothing may be under way in memory that goes now.
  ~DeviceAlone() override { static_cast<void>(wait()); }

  std::string_view algorithm() const override { return ""; }
  Status begin() override { return {}; }
  void start(std::size_t) override {}

  // Until now the backward pass reads parameters.
  Status await(std::size_t, StepReport* report) override {
    if (updated_) return {};
    updated_ = true;
    return joined_ ? Status() : update(report->step);
  }

  Status finish(StepReport* report) override {
    DIST_TRY(await(0, report));
    report->contributors = joined_ ? 0 : 1;
    updated_ = false;
    return {};
  }

  void join() override { joined_ = true; }
  Range updated(Range bucket) const override { return bucket; }
  Range saved(Range bucket) const override { return bucket; }
  Status end() override { return wait(); }

 private:
  // The mean of one is itself.
  Status update(std::uint64_t step) {
    DeviceUpdater& updater = context_.updater;
    if (!updater.updates_parameters()) return {};
    const Range whole{0, context_.arena.elems().value};
    const auto parameters = context_.arena.parameters(whole);
    const auto gradients = context_.arena.gradients(whole);
    DIST_TRY(updater.begin_step(stream(), {1.0, step}));
    if (updater.needs_norms()) {
      DIST_TRY(updater.add_squares(stream(), parameters, gradients, 0));
    }
    DIST_TRY(updater.settle(stream()));
    return updater.apply(stream(), parameters, gradients, 0);
  }

  Status wait() {
    return wait_for_stream(context_.device, stream(), context_.options.timeout, "end");
  }

  Stream stream() const { return context_.arena.stream(); }

  const DeviceExchangeContext context_;
  bool updated_ = false;  // this step
  bool joined_ = false;
};

}  // namespace

Result<std::unique_ptr<Exchange>> make_device_alone_exchange(const DeviceExchangeContext& context) {
  return std::unique_ptr<Exchange>(std::make_unique<DeviceAlone>(context));
}

}  // namespace dist::allreduce
