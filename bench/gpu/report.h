// SPDX-License-Identifier: Apache-2.0
// gpu_check's findings as text for a person. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/gpu/goals.h"
#include "bench/gpu/outcome.h"
#include "bench/gpu/plan.h"
#include "libdist/status.h"

namespace dist::bench::gpu {

struct Findings {  // NOLINT(bugprone-exception-escape): as Outcome
  std::string device;
  std::optional<double> copy_gb_per_s;  ///< measured: bytes read and written by a large copy
  std::vector<ModelFacts> models;
  std::vector<Section> sections;
  std::vector<Outcome> outcomes;
  std::vector<std::string> failures;  ///< checks over several runs that failed
  nlohmann::json provenance;
};

/// One table a section, the goals, what was not ok with its reason, where it was measured.
std::string format_report(const Findings& findings);

/// What must make the exit code 1: failed runs, cut runs of sections that must finish, failed
/// checks over several runs; with `strict` also goals that are not met.
std::vector<std::string> failures_of(const Findings& findings, bool strict);

}  // namespace dist::bench::gpu
