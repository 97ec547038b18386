// SPDX-License-Identifier: Apache-2.0
// ps_bench: pushes and pulls of the parameter servers without any computing, or with sleeps in its
// place, so that slow workers can be had at will.
#include <dist/dist.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>
#include <thread>

#include "bench/main.h"
#include "bench/provenance.h"
#include "bench/ps/ideal.h"
#include "bench/ps/limit.h"
#include "bench/record.h"

namespace {

using dist::Arena;
using dist::Elems;
using dist::Options;
using dist::Result;
using dist::Status;
using dist::World;
using dist::bench::Delays;
using dist::bench::ideal_run;
using dist::bench::RunLength;
using dist::bench::Variant;
using dist::bench::variant_grammar;
using dist::bench::variant_named;

constexpr const char* kFooter = R"(
A worker's step is a sleep of --compute-ms, all ready(), finish_step(). The last worker takes
--slow-worker times as long; with --slow-step every worker is 5 times slower in one step of ten, the
same steps for every policy. A worker ends after --steps steps, else when --seconds are over.
steps/s are contributions in the parameters, all workers together; ideal is what the policy would reach
if everything but the sleeps took no time (simulated, with the same sleeps). MB/s are what workers push
and pull, limit what plain sockets move over loopback in the same pattern in this run (transport tcp
only).
Start it with a launcher:
  distrun -n 2 ps_bench --dist-transport=tcp --dist-placement=dedicated
  distrun -n 4 ps_bench --elements 100000 --compute-ms 40 --slow-worker 4 --policies \
    sync,backup,bounded:1,bounded:4,bounded:16,async)";

struct BenchOptions {
  std::vector<std::uint64_t> elements = {25557032};
  std::vector<std::string> policies = {"sync", "async"};
  RunLength length{.steps = 0, .seconds = 5};
  Delays delays;
  std::string json;
};

// What one rank saw and, summed over all ranks, what the job did.
struct Tally {
  enum Field : std::size_t { pushed, applied, dropped, doubled, staleness_sum, servers, kFields };
  std::array<double, kFields> values{};
  double seconds = 0;
  double staleness_max = 0;
};

class Job {
 public:
  Job(const BenchOptions& bench, const Variant& variant, std::uint64_t elements)
      : bench_(bench), variant_(variant), elements_(elements) {}

  // This rank's part of a run.
  Result<Tally> run(Options options) {
    DIST_TRY(variant_.apply(&options));
    auto world = World::open(std::move(options));
    DIST_TRY(world);
    std::vector<dist::Parameter> list;
    // Sixteen layers: buckets fill one after the other.
    const auto layer = std::max<std::uint64_t>(elements_ / 16, 1);
    for (std::uint64_t at = 0; at < elements_; at += layer) {
      list.push_back({fmt::format("p{}", at), Elems(std::min(layer, elements_ - at))});
    }
    auto arena = Arena::create(std::move(list));
    DIST_TRY(arena);
    auto strategy = dist::make_strategy(variant_.strategy, *world, *arena,
                                        dist::Momentum{.learning_rate = 1e-3});
    DIST_TRY(strategy);
    DIST_TRY((*strategy)->begin());
    Tally tally;
    workers_ = (*strategy)->workers();
    if ((*strategy)->worker() >= 0) DIST_TRY(train(**strategy, *arena, &tally));
    DIST_TRY((*strategy)->end());
    account((*strategy)->server_report(), &tally);
    return tally;
  }

  int workers() const { return workers_; }

 private:
  Status train(dist::Strategy& strategy, const Arena& arena, Tally* tally) {
    const auto begin = dist::Clock::now();
    const auto elapsed = [begin] {
      return std::chrono::duration<double>(dist::Clock::now() - begin).count();
    };
    for (std::uint64_t step = 0; bench_.length.goes_on(step, elapsed()); ++step) {
      const double ms = bench_.delays.ms(strategy.worker(), strategy.workers(), step);
      if (ms > 0) std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms));
      for (std::size_t p = 0; p < arena.parameter_count(); ++p) strategy.ready(p);
      DIST_TRY(strategy.finish_step());
      ++tally->values[Tally::pushed];
    }
    tally->seconds = elapsed();
    return {};
  }

  static void account(const dist::ServerReport& served, Tally* tally) {
    tally->values[Tally::applied] = static_cast<double>(served.applied);
    tally->values[Tally::dropped] = static_cast<double>(served.dropped);
    tally->values[Tally::doubled] = static_cast<double>(served.doubled);
    tally->values[Tally::staleness_sum] = served.staleness_mean;
    tally->values[Tally::servers] = served.applied != 0 ? 1 : 0;
    tally->staleness_max = static_cast<double>(served.staleness_max);
  }

  const BenchOptions& bench_;
  const Variant variant_;
  const std::uint64_t elements_;
  int workers_ = 1;
};

std::optional<int> parse(int argc, char** argv, BenchOptions& o) {
  CLI::App app("Throughput of parameter servers by policy.");
  app.footer(kFooter);
  app.allow_extras();  // --dist-NAME=VALUE
  app.add_option("--elements", o.elements, "Elements (f32) of the arena, comma-separated")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--policies", o.policies, std::string(variant_grammar()))->delimiter(',');
  app.add_option("--steps", o.length.steps, "Of each worker; 0: as --seconds say");
  app.add_option("--seconds", o.length.seconds, "Of each run")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--compute-ms", o.delays.compute_ms,
                 "Sleep in place of a step's computing, milliseconds")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--slow-worker", o.delays.slow_worker,
                 "The last worker's sleep is so many times longer")
      ->check(CLI::Range(1.0, 1000.0));
  app.add_flag("--slow-step", o.delays.slow_step,
               "Every worker sleeps 5 times longer in one step of ten");
  app.add_option("--json", o.json, "Append one JSON line a policy and size to this file");
  return dist::bench::parse_command_line(app, argc, argv);
}

// A policy's steps/s.
struct Pace {
  std::string policy;
  double measured = 0;
  double ideal = 0;  // simulated; 0: nothing is emulated
};

Status report(const BenchOptions& o, const World& world, const Pace& pace, std::uint64_t elements,
              int workers, const Tally& sums, double limit, const nlohmann::json& provenance) {
  const auto& v = sums.values;
  const double dealt = v[Tally::applied] + v[Tally::dropped];
  const bool served = dealt > 0;
  const double bytes = static_cast<double>(elements) * 4;
  const double bytes_per_second = 2 * bytes * v[Tally::pushed] / sums.seconds;
  // Each worker's step brings every piece once, so what is dealt with is a multiple of the steps.
  const double pieces = served ? std::round(dealt / v[Tally::pushed]) : 0;
  const double lost = served ? v[Tally::pushed] * pieces - dealt : 0;
  const double stale = v[Tally::servers] > 0 ? v[Tally::staleness_sum] / v[Tally::servers] : 0;
  const auto& options = world.options();
  const bool dedicated = options.placement == dist::Placement::dedicated;
  std::fputs(
      fmt::format("{:>12} {:<12} {:>7} {:>12.2f} {:>10.2f} {:>10.1f} {:>10.1f} {:>8.0f} "
                  "{:>5.0f} {:>7.0f} {:>9.2f}\n",
                  elements, pace.policy, workers, pace.measured, pace.ideal, bytes_per_second / 1e6,
                  limit / 1e6, v[Tally::dropped], lost, sums.staleness_max, stale)
          .c_str(),
      stdout);
  std::fflush(stdout);
  if (o.json.empty()) return {};
  return dist::bench::append_line(
      o.json, {{"record", "ps"},
               {"kind", o.delays.compute_ms > 0 ? "emulated" : "measured"},
               {"policy", pace.policy},
               {"transport", world.transport_name()},
               {"workers", workers},
               {"servers", dedicated ? world.ranks() - workers
                                     : (options.servers > 0 ? options.servers : workers)},
               {"placement", dedicated ? "dedicated" : "colocated"},
               {"bytes", bytes},
               {"steps_per_second", pace.measured},
               {"ideal_steps_per_second", pace.ideal},
               {"bytes_per_second", bytes_per_second},
               {"limit_bytes_per_second", limit},
               {"dropped", v[Tally::dropped]},
               {"lost", lost},
               {"doubled", v[Tally::doubled]},
               {"staleness_max", sums.staleness_max},
               {"staleness_mean", stale},
               {"compute_ms", o.delays.compute_ms},
               {"slow_worker", o.delays.slow_worker},
               {"slow_step", o.delays.slow_step},
               {"steps", o.length.steps},
               {"seconds", sums.seconds},
               {"provenance", provenance}});
}

// The first thing one asks about stragglers: what is it of async, and what could it be?
void print_shares(const std::vector<Pace>& paces) {
  const auto async = std::find_if(paces.begin(), paces.end(),
                                  [](const Pace& pace) { return pace.policy == "async"; });
  if (async == paces.end() || async->ideal == 0) return;
  std::puts("\nof async     measured    ideal (simulated)   measured of ideal steps/s");
  for (const Pace& pace : paces) {
    std::fputs(fmt::format("{:<12} {:>8.3f} {:>20.3f} {:>27.3f}\n", pace.policy,
                           pace.measured / async->measured, pace.ideal / async->ideal,
                           pace.measured / pace.ideal)
                   .c_str(),
               stdout);
  }
}

Pace pace_of(const BenchOptions& o, const Variant& variant, int workers, const Tally& sums) {
  const auto& v = sums.values;
  const double dealt = v[Tally::applied] + v[Tally::dropped];
  const double share = dealt > 0 ? v[Tally::applied] / dealt : 1;
  Pace pace{variant.name, v[Tally::pushed] * share / sums.seconds, 0};
  if (o.delays.compute_ms > 0) {
    pace.ideal = ideal_run(variant, o.delays, workers, o.length).steps_per_second();
  }
  return pace;
}

Status run(const BenchOptions& o, int argc, char** argv) {
  std::vector<Variant> variants;
  for (const auto& name : o.policies) {
    const auto variant = variant_named(name);
    DIST_TRY(variant);
    if (variant->strategy == "ring") {
      return Status::invalid_argument("ring has no parameter server: see exchange_bench");
    }
    variants.push_back(*variant);
  }
  auto base = Options::from_environment(argc, argv);
  DIST_TRY(base);
  const auto provenance = dist::bench::provenance(dist::bench::command_line(argc, argv));
  auto world = World::open(*base);
  DIST_TRY(world);
  auto group = dist::make_group(*world);
  DIST_TRY(group);
  if (world->rank() == 0) {
    std::puts(
        "    elements policy       workers      steps/s      ideal       MB/s  limit MB/s  dropped "
        " lost "
        "stalest mean stale");
  }
  std::uint64_t job_number = 0;
  for (const auto elements : o.elements) {
    double limit = 0;
    if (world->transport_name() == "tcp") {
      const auto measured = dist::bench::loopback_limit(**group, elements * 4, 5);
      DIST_TRY(measured);
      limit = *measured;
    }
    std::vector<Pace> paces;
    for (const auto& variant : variants) {
      Options options = *base;
      options.job += ++job_number;  // its own place to meet
      Job job(o, variant, elements);
      auto tally = job.run(std::move(options));
      DIST_TRY_BECAUSE(tally, variant.name);
      DIST_TRY((*group)->all_reduce(tally->values));
      std::array<double, 2> most = {tally->seconds, tally->staleness_max};
      DIST_TRY((*group)->all_reduce(most, dist::Reduction::max));
      tally->seconds = most[0];
      tally->staleness_max = most[1];
      if (world->rank() != 0) continue;
      paces.push_back(pace_of(o, variant, job.workers(), *tally));
      DIST_TRY(report(o, *world, paces.back(), elements, job.workers(), *tally, limit, provenance));
    }
    if (world->rank() == 0) print_shares(paces);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  return dist::bench::run_program("ps_bench", argc, argv, parse, run);
}
