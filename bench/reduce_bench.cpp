// SPDX-License-Identifier: Apache-2.0
// reduce_bench: how fast one core reduces, by type, sources, outs, size and instruction set, alone
// and with the update behind it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>

#include "bench/main.h"
#include "bench/provenance.h"
#include "bench/record.h"
#include "libdist/memory/mapping.h"
#include "libdist/memory/reduce_kernels.h"
#include "libdist/update_loops.h"

namespace {

using dist::Bytes;
using dist::DType;
using dist::InstructionSet;
using dist::Mapping;
using dist::Reduction;

constexpr const char* kFooter = R"(
Columns: time is that of one call over `bytes` of every buffer, median and least of the rounds;
  GB/s = bytes x buffers / median time / 1e9, where buffers counts what is read or written once:
    reduce: sources + outs        memcpy: 2
    fused:  sources + 2 (parameters) + 2 (velocity); the rule momentum on the sum of 1 to 4
            sources in one loop (f32 and f64).
The paths of one row take turns, so that what else runs here meets all of them.
Example:
  reduce_bench --types f32 --sources 2 --outs 2 --bytes 65536,104857600)";

struct BenchOptions {
  std::vector<std::string> types = {"f32"};
  std::string reduction = "sum";
  std::vector<std::size_t> sources = {2};
  std::vector<std::size_t> outs = {1, 2};
  std::vector<std::uint64_t> bytes = {65536, 1048576, 104857600};
  std::vector<std::string> paths;
  bool in_place = true;
  bool fused = false;
  int rounds = 15;
  double turn_ms = 5;
  std::string json;
};

template <typename T>
std::vector<std::string> names_of(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.emplace_back(name_of(static_cast<T>(i)));
  return names;
}

template <typename T>
T by_name(const std::string& name, std::size_t count) {
  const auto names = names_of<T>(count);
  return static_cast<T>(std::find(names.begin(), names.end(), name) - names.begin());
}

std::vector<std::string> all_paths() {
  std::vector<std::string> names = {"memcpy"};
  for (const InstructionSet set : dist::usable_instruction_sets()) {
    names.emplace_back(name_of(set));
  }
  return names;
}

std::optional<int> parse(int argc, char** argv, BenchOptions& o) {
  CLI::App app("Speed of the reduction kernels on one core.");
  app.footer(kFooter);
  app.add_option("--types", o.types, "Element types, comma-separated")
      ->delimiter(',')
      ->check(CLI::IsMember(names_of<DType>(dist::kDTypes)));
  app.add_option("--reduction", o.reduction, "Operation")
      ->check(CLI::IsMember(names_of<Reduction>(5)));
  app.add_option("--sources", o.sources, "Numbers of sources, comma-separated")
      ->delimiter(',')
      ->check(CLI::Range(1, 64));
  app.add_option("--outs", o.outs, "Numbers of outs, comma-separated")
      ->delimiter(',')
      ->check(CLI::Range(1, 64));
  app.add_option("--bytes", o.bytes, "Bytes of every buffer, comma-separated")
      ->delimiter(',')
      ->check(CLI::Range(std::uint64_t{8}, std::uint64_t{1} << 34));
  app.add_option("--paths", o.paths, "Instruction sets and memcpy; default: all of this machine")
      ->delimiter(',')
      ->check(CLI::IsMember(all_paths()));
  app.add_option("--in-place", o.in_place, "Outs are the first sources (true), or other buffers");
  app.add_flag("--fused", o.fused, "Reduce and update (momentum) in one sweep, in place of outs");
  app.add_option("--rounds", o.rounds, "Turns of each path")->check(CLI::Range(1, 100000));
  app.add_option("--turn-ms", o.turn_ms, "Milliseconds of a turn, at least one call")
      ->check(CLI::Range(0.0, 60000.0));
  app.add_option("--json", o.json, "Append one JSON record a row and path to this file");
  if (const auto code = dist::bench::parse_command_line(app, argc, argv)) return code;
  if (o.fused && *std::max_element(o.sources.begin(), o.sources.end()) > dist::kMostSummands) {
    fmt::print(stderr, "reduce_bench: error: --fused takes at most {} sources\n",
               dist::kMostSummands);
    return 1;
  }
  if (o.fused && std::any_of(o.types.begin(), o.types.end(), [](const std::string& type) {
        return !dist::can_train(by_name<DType>(type, dist::kDTypes));
      })) {
    fmt::print(stderr, "reduce_bench: error: --fused updates parameters: types f32 and f64 only\n");
    return 1;
  }
  if (o.paths.empty()) o.paths = all_paths();
  return std::nullopt;
}

// One row: what is measured, in buffers of its own.
struct Row {
  DType dtype;
  Reduction reduction;
  std::size_t sources;
  std::size_t outs;
  std::uint64_t bytes;
  bool fused;
};

class Workload {
 public:
  static dist::Result<Workload> create(const Row& row, bool in_place) {
    Workload made(row);
    // A fused sweep ends in parameters and velocity, in buffers of their own.
    const std::size_t outs = row.fused ? 2 : row.outs;
    for (std::size_t i = 0; i < row.sources + outs; ++i) {
      auto mapped = Mapping::map(Bytes(row.bytes));
      DIST_TRY_BECAUSE(mapped, fmt::format("buffer {} of {} bytes", i, row.bytes));
      std::memset(mapped->bytes().data(), 0, row.bytes);
      made.buffers_.push_back(*std::move(mapped));
    }
    for (std::size_t i = 0; i < row.sources; ++i) made.sources_.push_back(made.buffers_[i].bytes());
    for (std::size_t m = 0; m < outs; ++m) {
      const bool same = in_place && !row.fused && m < row.sources;
      made.outs_.push_back(made.buffers_[same ? m : row.sources + m].bytes());
    }
    return made;
  }

  // What is read or written once.
  std::size_t traffic_buffers(const std::string& path) const {
    if (path == "memcpy") return 2;
    return row_.sources + (row_.fused ? 4 : row_.outs);
  }

  std::function<void()> call(const std::string& path) {
    if (path == "memcpy") {
      return
          [this] { std::memcpy(buffers_.back().bytes().data(), sources_[0].data(), row_.bytes); };
    }
    InstructionSet set = InstructionSet::portable;
    for (const InstructionSet usable : dist::usable_instruction_sets()) {
      if (name_of(usable) == path) set = usable;
    }
    if (row_.fused) return [this, set] { reduce_and_update(set); };
    return [this, set] {
      dist::kernels::reduce_in_order(set, outs_, sources_, row_.dtype, row_.reduction);
    };
  }

 private:
  explicit Workload(const Row& row) : row_(row) {}

  // Up to kMostSummands gradients.
  void reduce_and_update(InstructionSet set) {
    update_on(set, dist::Momentum{}, row_.dtype, outs_[0].first(row_.bytes), sources_,
              {outs_[1].data(), nullptr},
              {.scale = 1.0 / static_cast<double>(row_.sources), .rate = 0.01});
  }

  Row row_;
  std::vector<Mapping> buffers_;
  std::vector<std::span<const std::byte>> sources_;
  std::vector<std::span<std::byte>> outs_;
};

double seconds_of(const std::function<void()>& call, std::uint64_t calls) {
  const auto begin = dist::Clock::now();
  for (std::uint64_t i = 0; i < calls; ++i) call();
  return std::chrono::duration<double>(dist::Clock::now() - begin).count();
}

// As many calls as fill a turn.
std::uint64_t calls_of(const std::function<void()>& call, double turn_seconds) {
  std::uint64_t calls = 1;
  while (calls < (1u << 24)) {
    const double seconds = seconds_of(call, calls);
    if (seconds >= turn_seconds / 2) {
      return std::max<std::uint64_t>(
          1, static_cast<std::uint64_t>(static_cast<double>(calls) * turn_seconds / seconds));
    }
    calls *= 2;
  }
  return calls;
}

struct Times {
  double median;
  double least;
};

Times summarise(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front()};
}

dist::Status measure(const Row& row, const BenchOptions& options, const std::string& command) {
  auto workload = Workload::create(row, options.in_place);
  DIST_TRY(workload);
  std::vector<std::function<void()>> calls;
  std::vector<std::uint64_t> repeats;
  for (const auto& path : options.paths) {
    calls.push_back(workload->call(path));
    repeats.push_back(calls_of(calls.back(), options.turn_ms / 1e3));
  }
  std::vector<std::vector<double>> seconds(options.paths.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t p = 0; p < calls.size(); ++p) {
      seconds[p].push_back(seconds_of(calls[p], repeats[p]) / static_cast<double>(repeats[p]));
    }
  }
  for (std::size_t p = 0; p < calls.size(); ++p) {
    const Times times = summarise(seconds[p]);
    const auto& path = options.paths[p];
    const auto moved = row.bytes * workload->traffic_buffers(path);
    const double bandwidth = static_cast<double>(moved) / times.median;
    fmt::print("{:>5} {:>8} {:>8} {:>5} {:>10} {:>9} {:>12.2f} {:>12.2f} {:>8.2f}\n",
               name_of(row.dtype), options.fused ? "fused" : options.reduction, row.sources,
               options.fused ? 0 : row.outs, row.bytes, path, times.median * 1e6, times.least * 1e6,
               bandwidth / 1e9);
    std::fflush(stdout);
    if (options.json.empty()) continue;
    DIST_TRY(dist::bench::append_line(options.json,
                                      {{"record", "reduce"},
                                       {"kind", "measured"},
                                       {"type", name_of(row.dtype)},
                                       {"operation", options.fused ? "fused" : options.reduction},
                                       {"sources", row.sources},
                                       {"outs", options.fused ? 0 : row.outs},
                                       {"in_place", options.in_place},
                                       {"bytes", row.bytes},
                                       {"path", path},
                                       {"rounds", options.rounds},
                                       {"time_us_median", times.median * 1e6},
                                       {"time_us_min", times.least * 1e6},
                                       {"bytes_moved", moved},
                                       {"bandwidth", bandwidth},
                                       {"provenance", dist::bench::provenance(command)}}));
  }
  return {};
}

int fail(const dist::Status& status) {
  fmt::print(stderr, "reduce_bench: error: {}\n", status.message());
  return 1;
}

}  // namespace

// Memory that cannot be had may end the program.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  BenchOptions options;
  if (const auto code = parse(argc, argv, options)) return *code;
  const std::string command =
      std::accumulate(argv + 1, argv + argc, std::string(argv[0]),
                      [](const std::string& line, const char* word) { return line + " " + word; });
  fmt::print("{:>5} {:>8} {:>8} {:>5} {:>10} {:>9} {:>12} {:>12} {:>8}\n", "type", "op", "sources",
             "outs", "bytes", "path", "median us", "least us", "GB/s");
  for (const auto& type : options.types) {
    for (const std::size_t sources : options.sources) {
      for (const std::size_t outs : options.fused ? std::vector<std::size_t>{1} : options.outs) {
        for (const std::uint64_t bytes : options.bytes) {
          const auto dtype = by_name<DType>(type, dist::kDTypes);
          const Row row{dtype, by_name<Reduction>(options.reduction, 5), sources,
                        outs,  bytes / size_of(dtype) * size_of(dtype),  options.fused};
          if (auto status = measure(row, options, command); !status.ok()) return fail(status);
        }
      }
    }
  }
  fmt::print("\nGB/s = bytes x buffers read or written / median time; --help defines it.\n");
  return 0;
}
