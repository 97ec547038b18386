// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <limits>

#include "bench/main.h"

namespace dist::bench {
namespace {

constexpr const char* kFooter = R"(
Every library is a job of pinned processes (rank r on core r modulo cores). All jobs of one transport and rank count
are alive at once and take turns, ROUNDS times, each for about --turn-ms; who waits sleeps. Time of a call = the slowest
rank's; algorithm bandwidth = bytes / time; bus bandwidth = algorithm bandwidth x 2 (ranks - 1) / ranks.
Peers that were not found at build time are named in the table. --tuned adds each MPI once more with
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 in its environment: the heap keeps its scratch.
Exit code: 0 all measured and correct; 1 bad arguments, a wrong sum, or a job that failed; 2 only the plots are missing.
Example:
  all_reduce_bench --ranks 2 --bytes 4K,1M,100M --touched both --tuned --json all_reduce.jsonl)";

constexpr int kMostRanks = 64;

void add_subjects(CLI::App& app, AllReduceBenchOptions& o) {
  const auto list = [&](const char* name, auto& values, const char* meaning) {
    return app.add_option(name, values, meaning)->delimiter(',');
  };
  list("--ranks", o.ranks, "Rank counts, comma-separated");
  list("--bytes", o.size_texts, "Bytes of each rank's buffer (K, M, G: binary units)");
  list("--libraries", o.libraries, "libdist, limit (what the machine allows), none")
      ->check(CLI::IsMember({"libdist", "limit", "none"}));
  list("--peers", o.peers, "openmpi, mpich, gloo, none")
      ->check(CLI::IsMember({"openmpi", "mpich", "gloo", "none"}));
  list("--transports", o.transports, "shm (one host, peers as they come), tcp (loopback)")
      ->check(CLI::IsMember({"shm", "tcp"}));
  list("--algorithms", o.algorithms, "Of libdist: auto or what --dist-algorithm knows");
  list("--buffers", o.buffers, "Of libdist in one host: shared (allocated by it), private")
      ->check(CLI::IsMember({"shared", "private"}));
  app.add_option("--touched", o.touched,
                 "Whether every rank rewrites its buffer before each call: yes, no, both")
      ->check(CLI::IsMember({"yes", "no", "both"}));
  app.add_flag("--tuned", o.tuned, "Adds the MPIs with a heap that keeps its memory");
  app.add_option("--wire", o.wire,
                 "Instead of --transports: network namespaces joined at this rate (root only)")
      ->check(CLI::IsMember({"none", "1gbit", "10gbit"}));
  app.add_flag_callback(
      "--limit", [&o] { o.libraries.emplace_back("limit"); }, "The same as limit in --libraries");
}

void add_method(CLI::App& app, AllReduceBenchOptions& o) {
  app.add_option("--rounds", o.rounds, "Turns of each job at each size");
  app.add_option("--turn-ms", o.turn_ms,
                 "Milliseconds of timed calls in a turn, at least one call");
  app.add_option("--timeout", o.timeout_seconds, "Seconds after which a silent job has failed");
  app.add_option("--memory-gib", o.memory_gib,
                 "Memory for all buffers at once; above it each turn allocates anew; 0 = 60 % of "
                 "what is available");
  app.add_option("--json", o.json, "Records, a JSON line each; an older file is replaced");
  app.add_option("--plots", o.plots, "Directory for plots of bus bandwidth over size (gnuplot)");
}

Status check_numbers(const AllReduceBenchOptions& o) {
  if (o.ranks.empty() || o.size_texts.empty() || o.transports.empty()) {
    return Status::invalid_argument("--ranks, --bytes and --transports need at least one entry");
  }
  for (const int ranks : o.ranks) {
    if (ranks < 2 || ranks > kMostRanks) {
      return Status::invalid_argument(
          fmt::format("an entry of --ranks is {}; valid: 2 to {}", ranks, kMostRanks));
    }
  }
  if (o.rounds < 1) return Status::invalid_argument("--rounds must be at least 1");
  if (o.turn_ms <= 0) return Status::invalid_argument("--turn-ms must be above 0");
  if (o.timeout_seconds < 1) return Status::invalid_argument("--timeout must be at least 1");
  if (o.memory_gib < 0) return Status::invalid_argument("--memory-gib must not be negative");
  return {};
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  int shift = 0;
  if (unit == "K") shift = 10;
  if (unit == "M") shift = 20;
  if (unit == "G") shift = 30;
  const bool known = unit.empty() || shift > 0;
  if (error != std::errc() || !known || value > std::numeric_limits<std::uint32_t>::max()) {
    return Status::invalid_argument(
        fmt::format("'{}' is no size; valid: 4096, 64K, 1M, 2G (binary units)", text));
  }
  value <<= shift;
  if (value == 0 || value % sizeof(float) != 0) {
    return Status::invalid_argument(
        fmt::format("size '{}' is not a multiple of 4 bytes above 0", text));
  }
  return value;
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 3> kUnits = {"KiB", "MiB", "GiB"};
  if (bytes % 1024 != 0 || bytes == 0) return fmt::format("{} B", bytes);
  std::size_t unit = 0;
  for (bytes /= 1024; bytes % 1024 == 0 && unit + 1 < kUnits.size(); bytes /= 1024) ++unit;
  return fmt::format("{} {}", bytes, kUnits[unit]);
}

std::optional<int> parse_all_reduce_options(int argc, const char* const* argv,
                                            AllReduceBenchOptions& options) {
  CLI::App app{
      "Measures all-reduce: libdist, the libraries that one could take instead, and the "
      "machine's limit, in turns.",
      "all_reduce_bench"};
  app.footer(kFooter);
  app.get_formatter()->column_width(34);
  app.option_defaults()->always_capture_default();
  add_subjects(app, options);
  add_method(app, options);
  return parse_command_line(app, argc, argv);
}

Status validate(AllReduceBenchOptions& options) {
  DIST_TRY(check_numbers(options));
  options.bytes.clear();
  for (const std::string& text : options.size_texts) {
    auto bytes = parse_size(text);
    if (!bytes.ok()) return bytes.status().because("--bytes");
    options.bytes.push_back(*bytes);
  }
  return {};
}

std::vector<bool> touched_modes(const AllReduceBenchOptions& options) {
  if (options.touched == "yes") return {true};
  if (options.touched == "no") return {false};
  return {false, true};
}

}  // namespace dist::bench
