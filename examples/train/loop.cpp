// SPDX-License-Identifier: Apache-2.0
#include "examples/train/loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "examples/train/report.h"

namespace train {
namespace {

using dist::Status;

double milliseconds(dist::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

class Loop {
 public:
  Loop(const TrainOptions& options, Replica& replica, dist::World& world)
      : options_(options),
        replica_(replica),
        world_(world),
        first_(static_cast<std::int64_t>(replica.strategy->next_step())) {
    if (first_ > 0) replica_.network->resume_at(replica.strategy->next_step());
  }

  Status run() {
    const std::int64_t steps = options_.warmup + options_.steps;
    step_began_ = dist::Clock::now();
    measured_.steps = first_;
    for (std::int64_t step = first_; step < steps; ++step) {
      double loss = forward(step);
      if (step == first_ && defers_loss()) loss = replica_.network->last_loss();
      if (step > first_) DIST_TRY_BECAUSE(finish_step(step - 1), fmt::format("step {}", step - 1));
      if (measured_.stopped) break;
      note_loss(step, loss);
      backward();
      if (step < steps - 1) DIST_TRY(note_time(step));
    }
    if (!measured_.stopped && first_ < steps) {
      DIST_TRY_BECAUSE(finish_step(steps - 1), fmt::format("step {}", steps - 1));
      DIST_TRY(note_time(steps - 1));
    }
    finish();
    return {};
  }

  Measurements take() { return std::move(measured_); }
  std::int64_t steps() const { return measured_.steps; }

 private:
  // Starts while the parameters of the step before are still on their way. What fails there is told
  // by finish_step().
  double forward(std::int64_t step) {
    const dist::TraceScope scope(world_.trace(), dist::Activity::compute, "forward");
    return replica_.network->forward(replica_.batch(step), nn::Mode::train, [&](std::size_t p) {
      if (step > first_ && awaited_.ok()) awaited_ = replica_.strategy->await(p);
    });
  }

  void backward() {
    const dist::TraceScope scope(world_.trace(), dist::Activity::compute, "backward");
    replica_.network->backward([&](std::size_t p) { replica_.strategy->ready(p); });
  }

  Status finish_step(std::int64_t step) {
    DIST_TRY(awaited_);
    auto report = replica_.strategy->finish_step();
    DIST_TRY(report);
    if (step >= options_.warmup) count(*report);
    measured_.steps = step + 1;
    if (!replica_.saver) return {};
    const auto stop = replica_.saver->after_step(step, replica_);
    DIST_TRY(stop);
    measured_.stopped = *stop && measured_.steps < options_.warmup + options_.steps;
    return {};
  }

  // From forward pass to forward pass: what is still on its way then belongs to the next step, and
  // all that is left to the last one. A GPU is waited for where the timed steps begin and end.
  Status note_time(std::int64_t step) {
    const bool border = step == options_.warmup - 1 || step == options_.warmup + options_.steps - 1;
    if (replica_.gpu && border) DIST_TRY(replica_.gpu->wait(options_.world.timeout));
    const auto now = dist::Clock::now();
    const double step_ms = milliseconds(now - step_began_);
    step_began_ = now;
    if (step >= options_.warmup) {
      measured_.step_ms.push_back(step_ms);
      measured_.wall_s += step_ms / 1e3;
    }
    if (options_.progress && (world_.rank() == 0 || stands_alone(world_))) tell(step, step_ms);
    return {};
  }

  bool defers_loss() const { return replica_.network->options().deferred_loss; }

  void note_loss(std::int64_t step, double loss) {
    if (step == first_) measured_.loss_first = loss;
    measured_.loss_last = loss;
  }

  void count(const dist::StepReport& report) {
    measured_.exposed_ms += milliseconds(report.communication_exposed);
    measured_.exposed_bound_ms += milliseconds(report.communication_exposed_bound);
    measured_.busy_ms += milliseconds(report.communication_busy);
    measured_.update_ms += milliseconds(report.update);
    measured_.compression_ms += milliseconds(report.compression);
    measured_.compression_saved_bytes_per_step +=
        static_cast<double>(report.compression_saved.value);
    measured_.algorithm = report.algorithm;
    measured_.memory_saved_bytes = static_cast<double>(report.memory_saved.value);
    measured_.bytes_sent_per_step += static_cast<double>(report.bytes_sent.value);
    const auto layers = replica_.network->layer_times();
    measured_.layers.resize(layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i) {
      measured_.layers[i].name = layers[i].name;
      measured_.layers[i].forward_ns += layers[i].forward_ns;
      measured_.layers[i].backward_ns += layers[i].backward_ns;
    }
  }

  // Sums become means a step.
  void finish() {
    if (measured_.steps > first_ && defers_loss()) {
      measured_.loss_last = replica_.network->last_loss();
    }
    const auto steps = static_cast<double>(std::max<std::size_t>(measured_.step_ms.size(), 1));
    measured_.exposed_ms /= steps;
    measured_.exposed_bound_ms /= steps;
    measured_.busy_ms /= steps;
    measured_.update_ms /= steps;
    measured_.compression_ms /= steps;
    measured_.compression_saved_bytes_per_step /= steps;
    measured_.bytes_sent_per_step /= steps;
    for (nn::LayerTime& layer : measured_.layers) {
      layer.forward_ns /= steps;
      layer.backward_ns /= steps;
    }
  }

  void tell(std::int64_t step, double step_ms) const {
    std::fputs(fmt::format("step {:>5}/{}{}  loss {:.6f}  {:.2f} ms\n", step + 1,
                           options_.warmup + options_.steps,
                           step < options_.warmup ? " (warm-up)" : "", measured_.loss_last, step_ms)
                   .c_str(),
               stdout);
    std::fflush(stdout);
  }

  const TrainOptions& options_;
  Replica& replica_;
  dist::World& world_;
  const std::int64_t first_;  // step; those before it are in the checkpoint, or were done by others
  dist::TimePoint step_began_;
  Status awaited_;
  Measurements measured_;
};

}  // namespace

dist::Result<Measurements> run_training(const TrainOptions& options, Replica& replica,
                                        dist::World& world) {
  DIST_TRY_BECAUSE(replica.strategy->begin(), "before the first step");
  const auto sent_before = world.progress().counters().sent;
  Loop loop(options, replica, world);
  Status outcome = replica.trains() ? loop.run() : Status();
  if (outcome.ok()) outcome = replica.strategy->end().because("after the last step");
  if (!outcome.ok() && replica.saver && replica.trains()) {
    return replica.saver->with_loss(outcome, loop.steps());
  }
  DIST_TRY(outcome);
  Measurements measured = loop.take();
  if (replica.saver) measured.saved = replica.saver->finish();
  if (!replica.trains()) {
    measured.bytes_sent_per_step =
        static_cast<double>((world.progress().counters().sent - sent_before).value) /
        static_cast<double>(options.warmup + options.steps);
  }
  return measured;
}

}  // namespace train
