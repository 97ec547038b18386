// SPDX-License-Identifier: Apache-2.0
// tune: measures what messages and bytes cost here and which algorithm is fastest at which size,
// prints the fit, and writes the table that the option choice-table reads.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>

#include "bench/main.h"
#include "bench/provenance.h"
#include "bench/record.h"
#include "bench/tune/fit.h"
#include "bench/tune/measure.h"
#include "bench/tune/rows.h"
#include "libdist/dist.h"

namespace {

using dist::allreduce::Algorithm;
using dist::bench::Timing;

constexpr const char* kFooter = R"(
Started by distrun or mpirun; its ranks measure groups of 2, 3, 4, 6, 8, ... of them.
  time of a ring = 2 (N-1) alpha + 2 (N-1)/N bytes beta + (N-1)/N bytes gamma
  alpha: a message; beta: a byte on the way; gamma: a byte reduced (in the cache, measured alone).
Libdist's own options (--dist-transport=tcp ...) are understood as everywhere.
Example:
  distrun -n 4 tune --dist-transport=tcp --out table.txt
  distrun -n 4 train_cnn --dist-choice-table=table.txt ...)";

struct TuneOptions {
  std::vector<std::uint64_t> bytes = {64,     1024,    4096,    16384,   65536,
                                      262144, 1048576, 4194304, 16777216};
  std::vector<int> ranks;
  int rounds = 15;
  double turn_ms = 5;
  std::string out;
  std::string json;
};

// 2, 3, 4, 6, 8, 12, ... up to all.
std::vector<int> usual_rank_counts(int most) {
  std::vector<int> counts;
  for (int power = 2; power <= most; power *= 2) {
    counts.push_back(power);
    if (power + power / 2 <= most) counts.push_back(power + power / 2);
  }
  if (most >= 2 && counts.back() != most) counts.push_back(most);
  return counts;
}

std::optional<int> parse(int argc, char** argv, TuneOptions& o) {
  CLI::App app("Measures this machine's link and writes a table of algorithms.");
  app.footer(kFooter);
  app.allow_extras();  // --dist-NAME=VALUE
  app.add_option("--bytes", o.bytes, "Bytes of the all-reduces, comma-separated")
      ->delimiter(',')
      ->check(CLI::Range(std::uint64_t{4}, std::uint64_t{1} << 32));
  app.add_option("--ranks", o.ranks, "Rank counts, comma-separated; default 2, 3, 4, 6, 8, ...")
      ->delimiter(',')
      ->check(CLI::Range(2, 100000));
  app.add_option("--rounds", o.rounds, "Turns of each algorithm")->check(CLI::Range(1, 100000));
  app.add_option("--turn-ms", o.turn_ms, "Milliseconds of a turn, at least one call")
      ->check(CLI::Range(0.0, 60000.0));
  app.add_option("--out", o.out, "File for the table; default: the terminal");
  app.add_option("--json", o.json, "Append one JSON record a timing and one for the fit");
  if (const auto code = dist::bench::parse_command_line(app, argc, argv)) return code;
  for (const std::string& extra : app.remaining()) {
    if (extra.starts_with("--dist-")) continue;
    std::fprintf(stderr, "tune: '%s' is not understood; see --help\n", extra.c_str());
    return 1;
  }
  return std::nullopt;
}

std::vector<Algorithm> algorithms_for(const dist::World& world, int ranks) {
  std::vector<Algorithm> algorithms = {Algorithm::ring, Algorithm::doubling, Algorithm::halving,
                                       Algorithm::tree};
  if (world.transport_name() == "mpi" && ranks == world.ranks()) {
    algorithms.push_back(Algorithm::native);
  }
  return algorithms;
}

void print_timings(const std::vector<Timing>& timings) {
  std::printf("%5s %12s %-10s %12s\n", "ranks", "bytes", "algorithm", "us");
  for (const Timing& timing : timings) {
    std::printf("%5d %12llu %-10s %12.1f\n", timing.ranks,
                static_cast<unsigned long long>(timing.bytes),
                std::string(name_of(timing.algorithm)).c_str(), timing.seconds * 1e6);
  }
  std::fflush(stdout);
}

// A fit of each rank count: where ranks share cores, more of them make each message dearer.
struct Fit {
  int ranks;
  dist::bench::LinkCosts costs;
};

Fit print_fit(int ranks, const std::vector<Timing>& timings, double gamma_s_per_byte) {
  std::vector<dist::bench::RingSample> samples;
  for (const Timing& timing : timings) {
    if (timing.ranks != ranks || timing.algorithm != Algorithm::ring) continue;
    samples.push_back({ranks, static_cast<double>(timing.bytes), timing.seconds});
  }
  const auto costs = dist::bench::fit_ring(samples, gamma_s_per_byte);
  std::printf(
      "%d ranks: alpha %.2f us a message, beta %.3f ns a byte, gamma %.3f ns a byte; the worst "
      "ring "
      "differs by %.0f %%\n",
      ranks, costs.alpha_s * 1e6, costs.beta_s_per_byte * 1e9, costs.gamma_s_per_byte * 1e9,
      100 * worst_error(costs, samples));
  return {ranks, costs};
}

dist::Status write_records(const TuneOptions& options, const dist::World& world,
                           const std::vector<Timing>& timings, const std::vector<Fit>& fits,
                           const nlohmann::json& provenance) {
  if (options.json.empty()) return {};
  for (const Timing& timing : timings) {
    DIST_TRY(dist::bench::append_line(options.json, {{"record", "tune"},
                                                     {"transport", world.transport_name()},
                                                     {"ranks", timing.ranks},
                                                     {"bytes", timing.bytes},
                                                     {"algorithm", name_of(timing.algorithm)},
                                                     {"time_us_median", timing.seconds * 1e6},
                                                     {"provenance", provenance}}));
  }
  for (const auto& [ranks, costs] : fits) {
    DIST_TRY(
        dist::bench::append_line(options.json, {{"record", "tune_fit"},
                                                {"transport", world.transport_name()},
                                                {"ranks", ranks},
                                                {"alpha_us", costs.alpha_s * 1e6},
                                                {"beta_ns_per_byte", costs.beta_s_per_byte * 1e9},
                                                {"gamma_ns_per_byte", costs.gamma_s_per_byte * 1e9},
                                                {"provenance", provenance}}));
  }
  return {};
}

dist::Status report(const TuneOptions& options, const dist::World& world,
                    const std::vector<Timing>& timings, const std::string& command) {
  const auto provenance = dist::bench::provenance(command);
  const double gamma_s_per_byte = dist::bench::measure_gamma(options.rounds);
  std::vector<Fit> fits;
  for (const Timing& timing : timings) {
    if (!fits.empty() && fits.back().ranks == timing.ranks) continue;
    fits.push_back(print_fit(timing.ranks, timings, gamma_s_per_byte));
  }
  DIST_TRY(write_records(options, world, timings, fits, provenance));
  const auto table = dist::bench::table_from(timings, std::string(world.transport_name()),
                                             dist::allreduce::default_choice_table());
  const auto text = fmt::format("# Measured by: {}\n# {}, {} cores, {}\n{}", command,
                                provenance.value("cpu", "?"), dist::bench::usable_cores(),
                                provenance.value("date", "?"), print_choice_table(table));
  if (options.out.empty()) {
    std::fputs(text.c_str(), stdout);
    return {};
  }
  std::ofstream file(options.out);
  file << text;
  file.close();
  if (file) return {};
  return dist::Status::resource(fmt::format("{} cannot be written", options.out));
}

dist::Status tune(const TuneOptions& options, int argc, char** argv) {
  auto world = dist::World::from_environment(argc, argv);
  DIST_TRY(world);
  const auto counts = options.ranks.empty() ? usual_rank_counts(world->ranks()) : options.ranks;
  if (counts.empty() || *std::max_element(counts.begin(), counts.end()) > world->ranks()) {
    return dist::Status::invalid_argument(fmt::format(
        "this job has {} ranks; start at least 2, and as many as the largest of --ranks "
        "(distrun -n 4 tune)",
        world->ranks()));
  }
  std::vector<Timing> timings;
  for (const int ranks : counts) {
    dist::bench::MeasureOptions measured{options.bytes, algorithms_for(*world, ranks),
                                         options.rounds, options.turn_ms};
    const auto some = dist::bench::measure(*world, ranks, measured);
    DIST_TRY(some);
    timings.insert(timings.end(), some->begin(), some->end());
    if (world->rank() == 0) print_timings(*some);
  }
  if (world->rank() != 0) return {};
  const bool by_mpirun = world->options().launcher == dist::Launcher::open_mpi;
  std::string command = fmt::format("{} -n {}", by_mpirun ? "mpirun" : "distrun", world->ranks());
  for (int i = 0; i < argc; ++i) command += fmt::format(" {}", argv[i]);
  return report(options, *world, timings, command);
}

}  // namespace

int main(int argc, char** argv) {
  return dist::bench::run_program("tune", argc, argv, parse, tune);
}
