// SPDX-License-Identifier: Apache-2.0
// runs.jsonl: one line a run, the trainer's last record plus where and how it was made.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/sweep.h"
#include "libdist/status.h"

namespace dist::bench {

/// What tables and plots need of a run.
struct Record {  // NOLINT(bugprone-exception-escape): moving JSON is noexcept, but asserts
  RunSpec run;
  std::string kind;  ///< "measured", or "emulated" where the computation was only replayed
  std::string transport;
  std::string backend;
  int workers = 1;
  int servers = 0;
  std::string placement;
  std::uint64_t batch = 0;  ///< per worker
  std::uint64_t image = 0;
  double images_per_second = 0;
  double images_per_second_se = 0;  ///< over the steps of the run
  double step_ms = 0;
  double exposed_ms = 0;
  double bytes_sent_per_step = 0;
  std::string accelerator;  ///< emulated: whose step times were replayed
  nlohmann::json provenance;
};

/// Reads the last line with record = "train" of a file that the trainer wrote.
Result<nlohmann::json> last_train_record(const std::string& path);

/// Takes a line of runs.jsonl apart; names the field that is missing or of the wrong type.
Result<Record> parse_record(const nlohmann::json& line);

/// All train records of a runs.jsonl; records of failed runs are left out.
Result<std::vector<Record>> read_records(const std::string& path);

/// Appends one line; an error names path and cause.
Status append_line(const std::string& path, const nlohmann::json& line);

}  // namespace dist::bench
