// SPDX-License-Identifier: Apache-2.0
// all_reduce_bench: libdist, its peers and the machine's limit, interleaved in one run.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include "bench/all_reduce/chart.h"
#include "bench/all_reduce/contest.h"
#include "bench/all_reduce/job.h"
#include "bench/all_reduce/lineup.h"
#include "bench/all_reduce/options.h"
#include "bench/all_reduce/report.h"
#include "bench/all_reduce/wire.h"
#include "bench/provenance.h"
#include "bench/record.h"

namespace {

using namespace dist::bench;

constexpr int kFailed = 1;
constexpr int kPlotsMissing = 2;
constexpr double kMemoryShare = 0.6;

int fail(const dist::Status& status) {
  fmt::print(stderr, "all_reduce_bench: error: {}\n", status.message());
  return kFailed;
}

std::uint64_t available_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("MemAvailable:", 0) == 0) return std::stoull(line.substr(13)) * 1024;
  }
  return std::uint64_t{1} << 30;
}

// A private directory in memory, gone with this object.
class Scratch {
 public:
  static dist::Result<std::unique_ptr<Scratch>> make() {
    for (const char* parent : {"/dev/shm", "/tmp"}) {
      std::string name = fmt::format("{}/all_reduce_bench-XXXXXX", parent);
      if (mkdtemp(name.data()) != nullptr) return std::unique_ptr<Scratch>(new Scratch(name));
    }
    return dist::Status::resource("cannot make a directory in /dev/shm or /tmp");
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// Holds all contests one after the other; keeps what was measured and what was missing.
class Run {
 public:
  Run(const AllReduceBenchOptions& options, nlohmann::json provenance, const Scratch& scratch)
      : options_(options), provenance_(std::move(provenance)), scratch_(scratch) {
    std::error_code error;
    const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    programs_ = find_peers(here.string());
  }

  void contests() {
    for (const int ranks : options_.ranks) {
      if (options_.wire != "none") {
        hold_over_wire(ranks);
        continue;
      }
      for (const std::string& transport : options_.transports) {
        if (interrupts_.pending() != 0) return;
        if (transport == "shm") hold(line_up_shm(options_, programs_, ranks));
        if (transport == "tcp") hold(line_up_tcp(options_, programs_, ranks, Network{}));
      }
    }
  }

  int report() {
    for (const std::string& each : missing_) fmt::print("\nmissing: {}", each);
    fmt::print("\n{}\n{}\n{}", time_tables(measurements_), ratio_table(compare(measurements_)),
               formulas());
    if (const int signal = interrupts_.pending(); signal != 0) return 128 + signal;
    if (failed_) return kFailed;
    if (options_.plots.empty()) return 0;
    const auto status = write_bandwidth_plots(measurements_, options_.plots);
    if (status.ok()) return 0;
    fmt::print(stderr, "all_reduce_bench: no plots: {}\n", status.message());
    return kPlotsMissing;
  }

 private:
  void hold_over_wire(int ranks) {
    auto wire = Wire::make(options_.wire, ranks, fmt::format("arb{}", getpid()),
                           scratch_.path() + "/wire.log");
    if (wire.ok()) return hold(line_up_tcp(options_, programs_, ranks, (*wire)->network()));
    failed_ = true;
    note_missing({wire.status().message()});
  }

  void hold(Lineup lineup) {
    note_missing(lineup.missing);
    std::vector<std::unique_ptr<Job>> jobs;
    for (JobSpec& spec : lineup.jobs) {
      if (interrupts_.pending() != 0) return;
      auto job = Job::start(spec, fmt::format("{}/{}", scratch_.path(), ++started_),
                            std::chrono::seconds(options_.timeout_seconds), interrupts_);
      if (job.ok()) {
        jobs.push_back(*std::move(job));
      } else {
        failed_ = true;
        note_missing({fmt::format("{} ({}, {} ranks): {}", spec.name(), spec.contest, spec.ranks,
                                  job.status().message())});
      }
    }
    std::vector<Contestant*> contestants;
    contestants.reserve(jobs.size());
    for (const auto& job : jobs) contestants.push_back(job.get());
    hold_contest(contestants, rules(), [&](const Measurement& each) { keep(each, jobs); });
    if (isatty(STDERR_FILENO) == 1) fmt::print(stderr, "\r\x1b[K");
  }

  ContestRules rules() {
    ContestRules rules;
    rules.bytes = options_.bytes;
    rules.touched = touched_modes(options_);
    rules.rounds = options_.rounds;
    rules.turn_ms = options_.turn_ms;
    rules.memory_bytes = options_.memory_gib > 0
                             ? static_cast<std::uint64_t>(options_.memory_gib * (1 << 30))
                             : static_cast<std::uint64_t>(
                                   static_cast<double>(available_memory_bytes()) * kMemoryShare);
    rules.stop = [this] { return interrupts_.pending() != 0; };
    const bool live = isatty(STDERR_FILENO) == 1;
    rules.progress = [live, rounds = options_.rounds](const std::string& what, int round) {
      if (live) fmt::print(stderr, "\r\x1b[K{}: round {} of {}", what, round + 1, rounds);
      if (!live && round == 0) fmt::print(stderr, "measuring {}\n", what);
    };
    return rules;
  }

  void keep(const Measurement& measurement, const std::vector<std::unique_ptr<Job>>& jobs) {
    measurements_.push_back(measurement);
    failed_ = failed_ || !measurement.failure.empty();
    if (options_.json.empty()) return;
    nlohmann::json record = to_record(measurement, provenance_);
    for (const auto& job : jobs) {
      if (job->spec().name() == measurement.spec.name()) record["version"] = job->version();
    }
    if (const auto status = append_line(options_.json, record); !status.ok()) {
      failed_ = true;
      fmt::print(stderr, "all_reduce_bench: {}\n", status.message());
    }
  }

  void note_missing(const std::vector<std::string>& more) {
    for (const std::string& each : more) {
      if (std::find(missing_.begin(), missing_.end(), each) == missing_.end()) {
        missing_.push_back(each);
      }
    }
  }

  const AllReduceBenchOptions& options_;
  nlohmann::json provenance_;
  const Scratch& scratch_;
  Interrupts interrupts_;
  PeerPrograms programs_;
  std::vector<Measurement> measurements_;
  std::vector<std::string> missing_;
  int started_ = 0;
  bool failed_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  AllReduceBenchOptions options;
  if (const auto code = parse_all_reduce_options(argc, argv, options)) return *code;
  if (const auto status = validate(options); !status.ok()) return fail(status);
  if (!options.json.empty() && !std::ofstream(options.json, std::ios::trunc)) {
    return fail(dist::Status::resource("cannot write " + options.json));
  }
  auto scratch = Scratch::make();
  if (!scratch.ok()) return fail(scratch.status());
  Run run(options, provenance(command_line(argc, argv)), **scratch);
  run.contests();
  return run.report();
}
