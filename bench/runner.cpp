// SPDX-License-Identifier: Apache-2.0
#include "bench/runner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "bench/provenance.h"
#include "bench/record.h"

namespace dist::bench {
namespace {

constexpr std::size_t kTailLines = 12;

std::string minutes(double seconds) {
  const long whole = std::lround(seconds);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string failure_of(const ProcessResult& result, int timeout_seconds) {
  if (result.timed_out) return fmt::format("ended after {} s (--run-timeout)", timeout_seconds);
  return fmt::format("exit code {}", result.exit_code);
}

Status prepare_directory(const std::string& out) {
  std::error_code error;
  std::filesystem::create_directories(out + "/logs", error);
  if (error) {
    return Status::resource(fmt::format("cannot make {}/logs: {}", out, error.message()));
  }
  if (access(out.c_str(), W_OK) != 0) {
    return Status::resource(fmt::format("cannot write into {}: {}", out, std::strerror(errno)));
  }
  const std::string runs = out + "/runs.jsonl";
  if (std::filesystem::exists(runs)) {
    std::filesystem::rename(runs, out + "/runs.previous.jsonl", error);
    if (error) return Status::resource(fmt::format("cannot rename {}: {}", runs, error.message()));
  }
  return write_text(runs, "");
}

}  // namespace

Status write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text;
  file.flush();
  if (file) return {};
  return Status::resource(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
}

Result<Sweep> Sweep::open(const SweepOptions& options, const Tools& tools,
                          nlohmann::json provenance) {
  Sweep sweep;
  sweep.options_ = options;
  sweep.tools_ = tools;
  sweep.provenance_ = std::move(provenance);
  sweep.threads_ = threads_per_rank(options, usable_cores());
  sweep.runs_ = order_runs(options.models, options.strategies, options.ranks, options.repeats,
                           baseline_of(options));
  if (!options.replay_step_ms_file.empty()) {
    auto cluster = read_cluster(options.replay_step_ms_file);
    if (!cluster.ok()) return cluster.status();
    for (const std::string& model : options.models) {
      DIST_TRY(cluster->step_ms_at(model, 1));
    }
    sweep.cluster_ = *std::move(cluster);
  }
  DIST_TRY(prepare_directory(options.out));
  return sweep;
}

bool Sweep::run() {
  fmt::print("scaling: {} runs; results in {}\n", runs_.size(), options_.out);
  for (const RunSpec& each : runs_) {
    const std::string json = fmt::format("{}/logs/{}.jsonl", options_.out, run_name(each));
    std::filesystem::remove(json);
    auto command =
        command_of(each, options_, tools_, cluster_ ? &*cluster_ : nullptr, threads_, json);
    if (!command.ok()) {
      note_failure(each, command.status().message(), "");
      continue;
    }
    make(each, *command);
    if (interrupted_by_ != 0) {
      fmt::print(stderr, "scaling: ended by {}; {} of {} runs are kept\n",
                 strsignal(interrupted_by_), succeeded_, runs_.size());
      return false;
    }
  }
  return true;
}

void Sweep::make(const RunSpec& run, const std::vector<std::string>& command) {
  const std::string line = fmt::format("{}", fmt::join(command, " "));
  const std::string head = fmt::format("[{:>{}}/{}] {:<12} {:<11} {:>2} rank{} run {}",
                                       durations_.size() + 1, std::to_string(runs_.size()).size(),
                                       runs_.size(), run.model, display_name(run.strategy),
                                       run.ranks, run.ranks == 1 ? " " : "s", run.repeat + 1);
  const bool live = isatty(STDOUT_FILENO) == 1;
  const auto tick = [&](double seconds) {
    fmt::print("\r{}  {:.0f} s ", head, seconds);
    std::fflush(stdout);
  };
  const std::string log = fmt::format("{}/logs/{}.log", options_.out, run_name(run));
  const auto result = run_process(command, log, std::chrono::seconds(options_.run_timeout_seconds),
                                  live ? std::function<void(double)>(tick) : nullptr);
  durations_.push_back(result.wall_seconds);
  interrupted_by_ = result.interrupted_by;
  fmt::print("{}{}", live ? "\r" : "", head);
  if (interrupted_by_ != 0) {
    fmt::print("  interrupted\n");
    return;
  }
  if (const Status status = keep(run, result, line); !status.ok()) {
    fmt::print("  FAILED\n");
    note_failure(run, fmt::format("{}; log: {}", status.message(), log), line);
    fmt::print(stderr, "  $ {}\n{}", line, tail_of(log, kTailLines, "  | "));
  }
  std::fflush(stdout);
}

Status Sweep::keep(const RunSpec& run, const ProcessResult& result, const std::string& command) {
  if (result.exit_code != 0 || result.timed_out) {
    return Status::unavailable(failure_of(result, options_.run_timeout_seconds));
  }
  auto record = last_train_record(fmt::format("{}/logs/{}.jsonl", options_.out, run_name(run)));
  if (!record.ok()) return record.status();
  auto parsed = parse_record(*record);
  if (!parsed.ok()) return parsed.status();
  if (parsed->run.ranks != run.ranks) {
    return Status::protocol(
        fmt::format("the trainer ran {} ranks instead of {}", parsed->run.ranks, run.ranks));
  }
  nlohmann::json line = *record;
  line["repeat"] = run.repeat;
  line["run_command"] = command;
  line["wall_seconds"] = result.wall_seconds;
  line["provenance"] = provenance_;
  if (cluster_) line["accelerator"] = cluster_->name;
  DIST_TRY(append_line(options_.out + "/runs.jsonl", line));
  ++succeeded_;
  const double elapsed = std::accumulate(durations_.begin(), durations_.end(), 0.0);
  fmt::print("  {:>8.2f} images/s  {:>5.1f} s  (elapsed {}, about {} left)\n",
             parsed->images_per_second, result.wall_seconds, minutes(elapsed),
             minutes(remaining_seconds()));
  return {};
}

void Sweep::note_failure(const RunSpec& run, const std::string& why, const std::string& command) {
  failures_.push_back(fmt::format("{}: {}", run_name(run), why));
  const Status status = append_line(options_.out + "/runs.jsonl", {{"record", "failure"},
                                                                   {"model", run.model},
                                                                   {"strategy", run.strategy},
                                                                   {"ranks", run.ranks},
                                                                   {"repeat", run.repeat},
                                                                   {"reason", why},
                                                                   {"run_command", command}});
  if (!status.ok()) failures_.push_back(status.message());
}

// A run to come lasts as long as the last one of the same model and rank count did, else the mean.
double Sweep::remaining_seconds() const {
  const std::size_t done = durations_.size();
  const double average =
      std::accumulate(durations_.begin(), durations_.end(), 0.0) / static_cast<double>(done);
  double seconds = 0;
  for (std::size_t next = done; next < runs_.size(); ++next) {
    double guess = average;
    for (std::size_t past = 0; past < done; ++past) {
      if (runs_[past].model == runs_[next].model && runs_[past].ranks == runs_[next].ranks) {
        guess = durations_[past];
      }
    }
    seconds += guess;
  }
  return seconds;
}

}  // namespace dist::bench
