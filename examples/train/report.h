// SPDX-License-Identifier: Apache-2.0
// What a run tells afterwards: every rank's numbers gathered over the world itself, one JSON record
// and a readable summary from rank 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "examples/train/loop.h"

namespace train {

/// One row a rank: `mine` of each, in rank order. Every rank calls it with the same count.
dist::Result<std::vector<std::vector<double>>> gather(dist::World& world,
                                                      const std::vector<double>& mine);

/// Where workers may be lost or come later, nobody waits for all ranks: each speaks for itself, and
/// gather() gives its own row.
bool stands_alone(const dist::World& world);

/// The numbers of the whole job; of this worker where ranks stand alone. Times of steps are this
/// rank's.
struct Report {
  int worker = -1;  ///< whose numbers they are; -1: of all
  int workers = 1;
  int servers = 0;
  int threads = 1;
  std::string transport;
  std::string device;               ///< rank 0's GPU; empty: none
  std::vector<std::string> notes;   ///< of the backend, on rank 0: what it chose
  std::string update;               ///< optimizer, schedule and clipping with all their numbers
  double images_per_second = 0;     ///< batch * workers * steps / wall time of the slowest worker
  double images_per_second_se = 0;  ///< rate * (deviation of step times / sqrt(steps)) / mean
  double step_ms_median = 0;
  double exposed_ms = 0;
  double exposed_bound_ms = 0;
  double busy_ms = 0;
  double update_ms = 0;
  double compression_ms = 0;
  double compression_saved_bytes_per_step = 0;
  std::string algorithm;
  double bytes_sent_per_step = 0;  ///< mean over ranks
  double memory_saved_bytes = 0;   ///< a rank, by what ranks share or split
  double loss_first = 0;           ///< mean over workers
  double loss_last = 0;
  double peak_memory_bytes = 0;  ///< sum over ranks
  std::uint64_t parameters = 0;
  std::uint64_t parameter_hash = 0;  ///< worker 0's
  bool replicas_equal = true;        ///< all workers have worker 0's hash
  std::vector<std::uint64_t> staleness;
  double dropped = 0;           ///< contributions that servers dropped: parts of a step
  double server_imbalance = 0;  ///< elements of the fullest server over the mean; 0: no servers
};

/// Collective unless ranks stand alone: all ranks call it after run_training; rank 0's result is
/// the job's.
dist::Result<Report> make_report(const TrainOptions& options, const Replica& replica,
                                 const Measurements& measured, dist::World& world);

/// One line of JSON, appended to options.json.
dist::Status append_record(const TrainOptions& options, const Report& report);

/// A few lines for a person.
std::string summary(const TrainOptions& options, const Report& report);

}  // namespace train
