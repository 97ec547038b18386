// SPDX-License-Identifier: Apache-2.0
// exchange_bench: what one step of ring or sync-ps costs without any computing: exchange and
// update of arenas as large as a model, by algorithm, the modes taking turns.
#include <dist/dist.h>
#include <fmt/format.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <optional>

#include "bench/main.h"
#include "bench/provenance.h"
#include "bench/record.h"
#include "bench/statistics.h"

namespace {

using dist::Arena;
using dist::Elems;
using dist::Options;
using dist::Result;
using dist::Status;
using dist::Strategy;
using dist::World;

constexpr const char* kFooter = R"(
Modes, each with its own arenas; before every step each rank rewrites its gradients, untimed:
  none         every rank updates its own replica: no exchange (strategy none)
  lone         the same on rank 0 alone, the others wait
  fused sweep  ring, reduce and update in one sweep over shared memory
  sweep        ring, the sum over shared memory, then every rank updates its own replica
  ring         ring over the transport, then every rank updates its own replica
  sync-ps      parameter servers on all ranks, in the memory of the host where that is possible
A step's time is that of finish_step() on the slowest rank; median and least of the rounds. exchange is
what a step of the mode costs beside its update.
Start it with a launcher: distrun -n 2 exchange_bench --elements 25557032)";

struct BenchOptions {
  std::vector<std::uint64_t> elements = {25557032};
  std::string optimizer = "momentum";
  std::vector<std::string> modes = {"none", "lone", "fused sweep", "sweep", "ring", "sync-ps"};
  int rounds = 11;
  std::string json;
};

struct Mode {
  std::string name;
  std::string strategy;
  std::string algorithm;
  bool share_parameters;
  bool alone;
};

const std::vector<Mode>& modes() {
  static const std::vector<Mode> all = {
      {"none", "none", "auto", true, false},         {"lone", "none", "auto", true, true},
      {"fused sweep", "ring", "sweep", true, false}, {"sweep", "ring", "sweep", false, false},
      {"ring", "ring", "ring", true, false},         {"sync-ps", "sync-ps", "auto", true, false}};
  return all;
}

std::optional<int> parse(int argc, char** argv, BenchOptions& o) {
  std::vector<std::string> names;
  for (const Mode& mode : modes()) names.push_back(mode.name);
  CLI::App app("Cost of a step's exchange and update, without computing.");
  app.footer(kFooter);
  app.allow_extras();  // --dist-NAME=VALUE
  app.add_option("--elements", o.elements, "Elements (f32) of the arena, comma-separated")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--optimizer", o.optimizer,
                 "sgd, momentum, nesterov, rmsprop, adagrad, adam, adamw, nadam or lars")
      ->capture_default_str();
  app.add_option("--modes", o.modes, "Modes, comma-separated")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--rounds", o.rounds, "Rounds; every mode takes one step in each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--json", o.json, "Append one JSON line a mode and size to this file");
  return dist::bench::parse_command_line(app, argc, argv);
}

// One mode's world and arena, kept from round to round.
class Contestant {
 public:
  static Result<Contestant> make(const Mode& mode, const Options& base, std::uint64_t job,
                                 std::uint64_t elements, const dist::Update& update) {
    Options options = base;
    options.job += job;  // its own place to meet
    options.algorithm = mode.algorithm;
    options.share_parameters = mode.share_parameters;
    auto world = World::open(std::move(options));
    DIST_TRY(world);
    Contestant made(mode, *std::move(world));
    auto arena = Arena::create({{"all", Elems(elements)}});
    DIST_TRY(arena);
    made.arena_ = std::make_unique<Arena>(*std::move(arena));
    auto strategy = dist::make_strategy(mode.strategy, made.world_, *made.arena_, update);
    DIST_TRY(strategy);
    made.strategy_ = *std::move(strategy);
    DIST_TRY(made.strategy_->begin());
    return made;
  }

  const Mode& mode() const { return mode_; }

  // Seconds on this rank, and the step's own account of its update.
  Status step(double* seconds, double* update_seconds) {
    std::ranges::fill(arena_->gradient_span<float>(0), 1e-3f);
    if (mode_.alone && world_.rank() != 0) return {};
    strategy_->ready(0);
    const auto begin = dist::Clock::now();
    const auto report = strategy_->finish_step();
    DIST_TRY(report);
    *seconds = std::chrono::duration<double>(dist::Clock::now() - begin).count();
    *update_seconds = std::chrono::duration<double>(report->update).count();
    return {};
  }

  Status end() { return strategy_->end(); }

 private:
  Contestant(Mode mode, World world) : mode_(std::move(mode)), world_(std::move(world)) {}

  Mode mode_;
  World world_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Strategy> strategy_;
};

void pin(int rank) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  int nth = rank % std::max(1, CPU_COUNT(&allowed));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || nth-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

struct Times {
  std::vector<double> step_s;
  std::vector<double> update_s;
};

Status run_size(const BenchOptions& o, const Options& base, std::uint64_t elements, World& world,
                std::uint64_t* jobs, const nlohmann::json& provenance) {
  const auto rule = dist::make_update_rule(o.optimizer, 0.01);
  DIST_TRY(rule);
  auto group = dist::make_group(world);
  DIST_TRY(group);
  std::vector<Contestant> contestants;
  for (const Mode& mode : modes()) {
    if (std::find(o.modes.begin(), o.modes.end(), mode.name) == o.modes.end()) continue;
    auto made = Contestant::make(mode, base, ++*jobs, elements, *rule);
    DIST_TRY_BECAUSE(made, mode.name);
    contestants.push_back(*std::move(made));
  }
  std::vector<Times> times(contestants.size());
  for (int round = -2; round < o.rounds; ++round) {  // two of warm-up: pages, state
    for (std::size_t c = 0; c < contestants.size(); ++c) {
      std::array<double, 2> mine = {0, 0};
      DIST_TRY((*group)->barrier());
      DIST_TRY_BECAUSE(contestants[c].step(&mine[0], &mine[1]), contestants[c].mode().name);
      DIST_TRY((*group)->all_reduce(mine, dist::Reduction::max));
      if (round < 0) continue;
      times[c].step_s.push_back(mine[0]);
      times[c].update_s.push_back(mine[1]);
    }
  }
  for (Contestant& contestant : contestants) DIST_TRY(contestant.end());
  if (world.rank() != 0) return {};
  for (std::size_t c = 0; c < contestants.size(); ++c) {
    const double step_ms = 1e3 * dist::bench::median(times[c].step_s);
    const double least_ms = 1e3 * *std::ranges::min_element(times[c].step_s);
    const double update_ms = 1e3 * dist::bench::median(times[c].update_s);
    const std::string& name = contestants[c].mode().name;
    std::fputs(fmt::format("{:>12} {:>6} {:<12} {:9.2f} {:9.2f} {:9.2f} {:9.2f}\n", elements,
                           world.ranks(), name, step_ms, least_ms, update_ms,
                           std::max(0.0, step_ms - update_ms))
                   .c_str(),
               stdout);
    if (o.json.empty()) continue;
    nlohmann::json record = {{"record", "exchange"},
                             {"kind", "measured"},
                             {"mode", name},
                             {"ranks", world.ranks()},
                             {"transport", world.transport_name()},
                             {"elements", elements},
                             {"optimizer", o.optimizer},
                             {"rounds", o.rounds},
                             {"step_ms_median", step_ms},
                             {"step_ms_min", least_ms},
                             {"update_ms_median", update_ms},
                             {"provenance", provenance}};
    DIST_TRY(dist::bench::append_line(o.json, record));
  }
  return {};
}

Status run(const BenchOptions& o, int argc, char** argv) {
  auto base = Options::from_environment(argc, argv);
  DIST_TRY(base);
  // Counts cores: before pin().
  const auto provenance = dist::bench::provenance(dist::bench::command_line(argc, argv));
  pin(base->rank);
  auto world = World::open(*base);
  DIST_TRY(world);
  if (world->rank() == 0) {
    std::puts("    elements  ranks mode           step ms     least    update  exchange");
  }
  std::uint64_t jobs = 0;
  for (const auto elements : o.elements) {
    DIST_TRY(run_size(o, *base, elements, *world, &jobs, provenance));
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  return dist::bench::run_program("exchange_bench", argc, argv, parse, run);
}
