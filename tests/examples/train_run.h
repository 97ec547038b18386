// SPDX-License-Identifier: Apache-2.0
// train_cnn as the tests run it: real processes, and what they wrote.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/examples/program.h"

namespace dist::test {

enum class StartedBy { distrun, mpirun };

/// What a run left behind.
struct Trained {
  nlohmann::json record;           ///< the last of its JSON lines
  std::vector<double> parameters;  ///< worker 0's, forward order
  Finished process;
};

/// Trains on `ranks` ranks and requires success. `arguments` are split at blanks.
Trained train(int ranks, const std::string& arguments, StartedBy by = StartedBy::distrun);

/// The command line of such a run.
std::vector<std::string> train_command(int ranks, const std::string& arguments,
                                       StartedBy by = StartedBy::distrun);

/// Whether both have the same length and every element differs by at most `tolerance` times the
/// largest magnitude in `wanted`.
bool close_to(const std::vector<double>& got, const std::vector<double>& wanted, double tolerance);

/// Last line of a file as JSON.
nlohmann::json last_record(const std::string& path);

}  // namespace dist::test
