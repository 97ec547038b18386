// SPDX-License-Identifier: Apache-2.0
// Runs a sweep: starts each run, keeps its record, shows progress, survives failures.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/options.h"
#include "bench/process.h"
#include "libdist/status.h"

namespace dist::bench {

/// Writes a whole file; an error names path and cause.
Status write_text(const std::string& path, const std::string& text);

class Sweep {
 public:
  /// Prepares the output directory (options.out, absolute) and reads the cluster file. An earlier
  /// runs.jsonl there becomes runs.previous.jsonl. Fails before anything is started.
  static Result<Sweep> open(const SweepOptions& options, const Tools& tools,
                            nlohmann::json provenance);

  /// Makes all runs. False when a signal ended it early; what was measured until then is kept.
  bool run();

  int succeeded() const { return succeeded_; }
  int interrupted_by() const { return interrupted_by_; }
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  Sweep() = default;
  void make(const RunSpec& run, const std::vector<std::string>& command);
  Status keep(const RunSpec& run, const ProcessResult& result, const std::string& command);
  void note_failure(const RunSpec& run, const std::string& why, const std::string& command);
  double remaining_seconds() const;

  SweepOptions options_;
  Tools tools_;
  nlohmann::json provenance_;
  std::optional<Cluster> cluster_;
  std::vector<RunSpec> runs_;
  std::vector<double> durations_;  ///< seconds of the runs so far, in order
  std::vector<std::string> failures_;
  int threads_ = 1;
  int succeeded_ = 0;
  int interrupted_by_ = 0;
};

}  // namespace dist::bench
