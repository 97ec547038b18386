// SPDX-License-Identifier: Apache-2.0
// What `scaling` was asked to do, and the command line of each run that follows from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/cluster.h"
#include "bench/sweep.h"
#include "libdist/status.h"

namespace dist::bench {

struct SweepOptions {
  std::vector<std::string> models = {"resnet50"};
  std::vector<std::string> strategies = {"ring", "sync-ps", "async-ps"};
  std::vector<int> ranks = {1, 2, 4};
  int repeats = 3;
  std::string independent = "all";  ///< all or first: at which rank counts the baseline runs

  int steps = 20;
  int warmup = 3;
  int batch = 32;   ///< per worker
  int image = 0;    ///< pixels; 0 = the model's native size
  int threads = 0;  ///< per rank; 0 = cores / largest rank count, at least 1
  std::string backend = "onednn";
  std::string transport = "auto";
  int servers = 0;  ///< 0 = the trainer's default
  std::string placement;
  std::string staleness;
  std::string replay_step_ms_file;

  std::string launcher = "distrun";
  std::string program;               ///< "" = train_cnn beside this program
  int run_timeout_seconds = 1800;    ///< of one run
  std::vector<std::string> trainer;  ///< further arguments of the trainer, after --

  std::string out;
  std::string plot_only;  ///< a directory with runs.jsonl: only table and plots are made
};

/// Fills options from the command line. Returns the exit code when the program has nothing more to
/// do: 0 after --help, 1 after an error, which was printed.
std::optional<int> parse_options(int argc, const char* const* argv, SweepOptions& options);

/// Ranges and combinations that CLI11 does not know about.
Status validate(const SweepOptions& options);

Baseline baseline_of(const SweepOptions& options);

/// Threads of each rank: the same at every rank count, so that a worker of the largest run computes
/// with what a worker of the smallest one had.
int threads_per_rank(const SweepOptions& options, int cores);

/// Programs a sweep starts.
struct Tools {
  std::string program;   ///< the trainer
  std::string launcher;  ///< distrun or mpirun
  bool launcher_is_mpirun = false;
  bool as_root = false;  ///< Open MPI wants to be told
};

/// Launcher and trainer as one command line; the trainer's record goes to `json_path`.
Result<std::vector<std::string>> command_of(const RunSpec& run, const SweepOptions& options,
                                            const Tools& tools, const Cluster* cluster, int threads,
                                            const std::string& json_path);

}  // namespace dist::bench
