// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/schooling.h"

#include <algorithm>
#include <array>
#include <thread>

#include "libdist/dist.h"

namespace dist::bench {
namespace {

// Sums over all ranks, but for the maximum.
struct Totals {
  enum Field : std::size_t {
    steps,
    bytes_sent,
    compression_ms,
    applied,
    dropped,
    staleness_sum,
    serving,
    kFields
  };
  std::array<double, kFields> values{};
  double staleness_max = 0;
};

class School {
 public:
  School(const SchoolOptions& options, Strategy& strategy, Learner& learner)
      : options_(options), strategy_(strategy), learner_(learner) {}

  Status run(TimePoint began) {
    const int worker = strategy_.worker();
    const int workers = strategy_.workers();
    for (std::uint64_t step = 0;; ++step) {
      const auto begin = Clock::now();
      if (!options_.length.goes_on(step, seconds(begin - began))) return {};
      Lesson lesson = learner_.study(step, worker, workers);
      const double ms = options_.delays.ms(worker, workers, step);
      std::this_thread::sleep_until(begin + std::chrono::duration_cast<Duration>(
                                                std::chrono::duration<double, std::milli>(ms)));
      for (std::size_t p = 0; p < learner_.arena().parameter_count(); ++p) strategy_.ready(p);
      const auto report = strategy_.finish_step();
      DIST_TRY(report);
      lesson.seconds = seconds(Clock::now() - began);
      lessons_.push_back(lesson);
      auto& v = totals_.values;
      v[Totals::steps] += 1;
      v[Totals::bytes_sent] += static_cast<double>(report->bytes_sent.value);
      v[Totals::compression_ms] += 1e3 * seconds(report->compression);
    }
  }

  void account(const ServerReport& served) {
    auto& v = totals_.values;
    v[Totals::applied] = static_cast<double>(served.applied);
    v[Totals::dropped] = static_cast<double>(served.dropped);
    v[Totals::staleness_sum] = served.staleness_mean;
    v[Totals::serving] = served.applied != 0 ? 1 : 0;
    totals_.staleness_max = static_cast<double>(served.staleness_max);
  }

  const std::vector<Lesson>& lessons() const { return lessons_; }
  const Totals& totals() const { return totals_; }

 private:
  static double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
  }

  const SchoolOptions& options_;
  Strategy& strategy_;
  Learner& learner_;
  std::vector<Lesson> lessons_;
  Totals totals_;
};

// Those of all ranks, each rank's after the other's.
Result<std::vector<Lesson>> gather(Group& group, const std::vector<Lesson>& own) {
  std::vector<std::uint64_t> counts(static_cast<std::size_t>(group.ranks()), 0);
  const auto rank = static_cast<std::size_t>(group.rank());
  counts[rank] = own.size();
  DIST_TRY(group.all_reduce(counts));
  const auto most = *std::max_element(counts.begin(), counts.end());
  std::vector<double> words(3 * most * counts.size(), 0);
  for (std::size_t i = 0; i < own.size(); ++i) {
    double* at = &words[3 * (rank * most + i)];
    at[0] = own[i].seconds;
    at[1] = own[i].loss;
    at[2] = own[i].accuracy;
  }
  DIST_TRY(group.all_gather(words));
  std::vector<Lesson> all;
  for (std::size_t from = 0; from < counts.size(); ++from) {
    for (std::size_t i = 0; i < counts[from]; ++i) {
      const double* at = &words[3 * (from * most + i)];
      all.push_back({at[0], at[1], at[2]});
    }
  }
  return all;
}

// What the ranks saw becomes one outcome.
Status add_up(Group& group, const School& school, Schooling* outcome) {
  auto sums = school.totals().values;
  std::array<double, 1> most = {school.totals().staleness_max};
  DIST_TRY(group.all_reduce(sums));
  DIST_TRY(group.all_reduce(most, Reduction::max));
  auto lessons = gather(group, school.lessons());
  DIST_TRY(lessons);
  outcome->lessons = *std::move(lessons);
  const double steps = std::max(sums[Totals::steps], 1.0);
  const double dealt = std::max(sums[Totals::applied] + sums[Totals::dropped], 1.0);
  outcome->bytes_sent = sums[Totals::bytes_sent] / steps;
  outcome->compression_ms = sums[Totals::compression_ms] / steps;
  outcome->dropped = sums[Totals::dropped] / dealt;
  outcome->staleness_max = most[0];
  outcome->staleness_mean = sums[Totals::staleness_sum] / std::max(sums[Totals::serving], 1.0);
  return {};
}

}  // namespace

Result<Schooling> run_school(const SchoolOptions& school, const Variant& variant, Options options,
                             Group& group) {
  DIST_TRY(variant.apply(&options));
  auto world = World::open(std::move(options));
  DIST_TRY(world);
  auto learner = Learner::make(school.learner);
  DIST_TRY(learner);
  Schooling outcome;
  outcome.workers = world->ranks();
  if (variant.strategy != "ring") {
    const bool dedicated = world->options().placement == Placement::dedicated;
    const int asked = world->options().servers;
    outcome.servers = asked > 0 ? asked : dedicated ? 1 : world->ranks();
    if (dedicated) outcome.workers -= outcome.servers;
  }
  outcome.learning_rate = school.learning_rate * variant.rate_for(outcome.workers);
  outcome.momentum = variant.momentum.value_or(school.momentum);
  auto strategy =
      make_strategy(variant.strategy, *world, learner->arena(),
                    Momentum{.learning_rate = outcome.learning_rate, .momentum = outcome.momentum});
  DIST_TRY(strategy);
  DIST_TRY((*strategy)->begin());
  DIST_TRY(group.barrier());
  School run(school, **strategy, *learner);
  if ((*strategy)->worker() >= 0) DIST_TRY(run.run(Clock::now()));
  DIST_TRY((*strategy)->end());
  run.account((*strategy)->server_report());
  DIST_TRY(add_up(group, run, &outcome));
  return outcome;
}

}  // namespace dist::bench
