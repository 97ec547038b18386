// SPDX-License-Identifier: Apache-2.0
// What became of a run of gpu_check.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/gpu/plan.h"

namespace dist::bench::gpu {

enum class State {
  ok,
  failed,
  cut,      ///< its section's time was over before it began or ended
  skipped,  ///< there is nothing here to run it with
};
constexpr std::string_view name_of(State state) {
  return state == State::ok       ? "ok"
         : state == State::failed ? "failed"
         : state == State::cut    ? "cut"
                                  : "skipped";
}

struct Outcome {  // NOLINT(bugprone-exception-escape): moving JSON is noexcept, but asserts
  Run run;
  State state = State::ok;
  std::string reason;     ///< of what is not ok
  nlohmann::json record;  ///< the program's own; null where there is none
  std::string command;
  double wall_s = 0;
};

/// Images a second of an ok run's record; 0 where it is not one.
inline double rate_of(const Outcome& outcome) {
  if (outcome.state != State::ok || !outcome.record.is_object()) return 0;
  return outcome.record.value("images_per_second", 0.0);
}

}  // namespace dist::bench::gpu
